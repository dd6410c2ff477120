import click
import pytest

from cli.parameters import DueAt, Header, Label, Pair, Seconds, TypeName


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (TypeName(), "csv.profile", "csv.profile"),
        (Pair(), "a=b=c", ("a", "b=c")),
        (Pair(), "a=", ("a", "")),
        (Header(), "~" * 255, "~" * 255),
        (DueAt(), "2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        (DueAt(), "2027-01-31T12:00+02:00", "2027-01-31T10:00:00Z"),
        (Label(), "Acme, Köln", "Acme, Köln"),
        (Seconds(), "2.5", 2.5),
        (Seconds(), "inf", float("inf")),
    ],
)
def test_a_right_word_is_taken(kind, word, value):
    assert kind.convert(word, None, None) == value


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (TypeName(), ".."),
        (TypeName(), "a/b"),
        (TypeName(), ""),
        (TypeName(), "a..b"),
        (TypeName(), "a?b=c"),
        (Pair(), "novalue"),
        (Pair(), "=b"),
        (Header(), ""),
        (Header(), "~" * 256),
        (Header(), "with blank"),
        (Header(), "ü"),
        (Header(), "a\n"),
        (DueAt(), "2027-01-31T12:00:00"),
        (DueAt(), "tomorrow"),
        (DueAt(), "0001-01-01T00:00:00+14:00"),
        (Label(), ""),
        (Label(), " a"),
        (Label(), "a\x1b"),
        (Label(), "a" * 101),
        (Seconds(), "nan"),
        (Seconds(), "-1"),
    ],
)
def test_a_wrong_word_is_refused(kind, word):
    with pytest.raises(click.BadParameter):
        kind.convert(word, None, None)
