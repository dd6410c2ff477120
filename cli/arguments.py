"""A job's arguments, put together from what the command line gives."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from jobs.strict_json import BadJson, parse

# What stands before the first "=" of --arg-file is a name only if it looks like one: ./a=b.csv is a path.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NO_JSON = {"malformed", "empty"}
_CONSTANTS = {"NaN", "Infinity", "-Infinity"}

Args = dict[str, Any]


def args_from(
    whole: str | None, file: bytes | None, values: Iterable[str], files: Iterable[str], text_name: Callable[[], str]
) -> Args:
    """The arguments of --args, or --args-file, with those of --arg and --arg-file over them.

    `text_name` names the argument for an --arg-file without a name. Raises click.UsageError.
    """
    if whole is not None and file is not None:
        raise click.UsageError("Give --args or --args-file, not both.")
    source = "--args-file" if whole is None else "--args"
    body = file if whole is None else whole.encode()
    over: Args = {}
    for name, value in [*map(_value, values), *(_file(given, text_name) for given in files)]:
        if name in over:
            raise click.UsageError(f"The argument {name!r} is given twice.")
        over[name] = value
    return {**(_object(body, source) if body is not None else {}), **over}


def _object(body: bytes, source: str) -> Args:
    try:
        value = parse(body)
    except BadJson as error:
        raise click.UsageError(f"{source}: {error.detail}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"{source}: give a JSON object, such as '{{\"seconds\": 2}}'.")
    return value


def _value(given: str) -> tuple[str, Any]:
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--arg {given}: write it as name=value.")
    if text in _CONSTANTS:
        return name, text
    try:
        return name, parse(text.encode())
    except BadJson as error:
        if error.code in _NO_JSON:
            return name, text
        raise click.UsageError(f"--arg {name}: {error.detail}") from None


def _file(given: str, text_name: Callable[[], str]) -> tuple[str, str]:
    name, equals, path = given.partition("=")
    if not equals or not _NAME.fullmatch(name):
        name, path = "", given
    text = _text(Path(path))
    return name or text_name(), text


def _text(path: Path) -> str:
    try:
        # A byte order mark belongs to the file, not to the text.
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"--arg-file {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"--arg-file {path}: this is not UTF-8 text.") from None


def text_property(schema: Mapping[str, Any]) -> str:
    """The one argument that a file's text can be: that with a `contentMediaType`, else the only string."""
    properties = schema.get("properties") or {}
    for wanted in (_is_content, _is_string):
        names = [name for name, property_ in properties.items() if any(map(wanted, _variants(property_)))]
        if len(names) == 1:
            return str(names[0])
        if names:
            break
    raise click.UsageError(
        f"Which argument is the file for? Write --arg-file NAME=PATH, NAME being one of: {', '.join(properties)}."
    )


def _variants(property_: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    # `str | None` is an anyOf of two.
    return [property_, *property_.get("anyOf", ()), *property_.get("oneOf", ())]


def _is_content(variant: Mapping[str, Any]) -> bool:
    return "contentMediaType" in variant


def _is_string(variant: Mapping[str, Any]) -> bool:
    return variant.get("type") == "string"
