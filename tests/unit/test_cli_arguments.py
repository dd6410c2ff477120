from pathlib import Path

import click
import pytest

from cli.arguments import args_from, text_property
from jobs.builtin.csv_profile import CsvProfile


def no_name() -> str:
    raise AssertionError("nobody should have asked")


def given(*values: str, whole: str | None = None, file: bytes | None = None, files=(), text_name=no_name) -> dict:
    return args_from(whole, file, values, files, text_name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ('"2"', "2"),
        ('{"a": [1]}', {"a": [1]}),
        ("hello", "hello"),
        ("", ""),
        ("007", "007"),
        ("a=b", "a=b"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("{broken", "{broken"),
        ("über", "über"),
    ],
)
def test_a_value_is_json_where_it_is_json_and_else_a_string(text, value):
    made = given(f"name={text}")
    assert made == {"name": value}
    assert type(made["name"]) is type(value)


@pytest.mark.parametrize("text", ["99999999999999999999", '{"a": 1, "a": 2}', '"\\u0000"'])
def test_json_that_no_server_takes_is_refused_here(text):
    with pytest.raises(click.UsageError, match="--arg name"):
        given(f"name={text}")


@pytest.mark.parametrize("text", ["novalue", "=1"])
def test_an_argument_needs_a_name_and_a_value(text):
    with pytest.raises(click.UsageError, match="name=value"):
        given(text)


def test_single_arguments_go_over_the_whole():
    assert given("b=2", whole='{"a": 1, "b": 1}') == {"a": 1, "b": 2}
    assert given("b=2", file=b'{"a": 1, "b": 1}') == {"a": 1, "b": 2}
    assert given() == {}


def test_an_argument_given_twice_is_refused(tmp_path: Path):
    with pytest.raises(click.UsageError, match="twice"):
        given("a=1", "a=2")
    (tmp_path / "f").write_text("x")
    with pytest.raises(click.UsageError, match="twice"):
        given("a=1", files=[f"a={tmp_path}/f"])


@pytest.mark.parametrize("whole", ["[1]", "1", "", "{", '{"a": NaN}'])
def test_the_whole_must_be_a_json_object(whole):
    with pytest.raises(click.UsageError, match="--args"):
        given(whole=whole)


def test_the_whole_is_given_once():
    with pytest.raises(click.UsageError, match="not both"):
        given(whole="{}", file=b"{}")


def test_a_files_text_becomes_the_named_argument(tmp_path: Path):
    (tmp_path / "a=b.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,\xc3\xa9\r\n")
    assert given(files=[f"text={tmp_path}/a=b.csv"]) == {"text": "x,y\r\n1,é\r\n"}
    assert given(files=[f"{tmp_path}/a=b.csv"], text_name=lambda: "body") == {"body": "x,y\r\n1,é\r\n"}


def test_a_file_that_cannot_be_read_as_text_is_told(tmp_path: Path):
    with pytest.raises(click.UsageError, match="No such file"):
        given(files=[f"text={tmp_path}/nothing"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(click.UsageError, match="not UTF-8"):
        given(files=[f"text={tmp_path}/binary"])


def optional(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"n": {"type": "integer"}, "body": {"type": "string"}}, "body"),
        ({"n": {"type": "integer"}, "body": optional({"type": "string"})}, "body"),
        ({"url": {"type": "string"}, "body": {"type": "string", "contentMediaType": "text/csv"}}, "body"),
        ({"url": {"type": "string"}, "body": optional({"type": "string", "contentMediaType": "text/csv"})}, "body"),
        ({"url": {"type": "string"}, "body": {**optional({"type": "string"}), "contentMediaType": "a/b"}}, "body"),
    ],
)
def test_the_argument_for_a_file_is_the_content_or_the_only_string(properties, name):
    assert text_property({"properties": properties}) == name


def test_the_argument_for_a_file_of_a_shipped_type():
    assert text_property(CsvProfile.model_json_schema()) == "text"


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"a": {"type": "string"}, "b": {"type": "string"}},
        {"a": {"contentMediaType": "a/b"}, "b": {"contentMediaType": "a/b"}, "c": {"type": "string"}},
    ],
)
def test_a_guess_is_not_made_where_two_or_none_fit(properties):
    with pytest.raises(click.UsageError, match="NAME=PATH"):
        text_property({"properties": properties})
