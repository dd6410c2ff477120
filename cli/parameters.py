"""Kinds of words on the command line, checked before anything is sent."""

import math
import re
from datetime import UTC, datetime
from typing import Any

import click


class TypeName(click.ParamType[str]):
    """The name of a job type; it becomes part of a path."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", value):
            self.fail(f"{value!r} is no name of a job type; one looks like csv.profile", param, ctx)
        return str(value)


class Pair(click.ParamType[tuple[str, str]]):
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split it."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        return name, text


class Header(click.ParamType[str]):
    """What may stand in an Idempotency-Key header: 1 to 255 visible ASCII characters."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", value):
            self.fail("1 to 255 visible ASCII characters", param, ctx)
        return str(value)


class DueAt(click.ParamType[str]):
    """A time with its offset, as RFC 3339 writes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same time in UTC."""
        try:
            time = datetime.fromisoformat(value)
            utc = time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; a right one: 2027-01-31T12:00:00Z", param, ctx)
        if time.tzinfo is None:
            self.fail(f"{value!r} does not say whose hour it is; add Z for UTC, or +02:00", param, ctx)
        return utc


class Seconds(click.FloatRange):
    """A length of time, 0 or more; `inf` is for ever."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Check it."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):  # passes every comparison of the range
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class AtMost(click.ParamType[float | str]):
    """A number above 0, or `none`."""

    name = "limit"
    NONE = "none"

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Check it."""
        if value == self.NONE:
            return self.NONE
        try:
            number = int(value) if self.whole else float(value)
        except ValueError:
            number = 0
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is no {'whole ' if self.whole else ''}number above 0, nor {self.NONE}", param, ctx)
        return number


class Id(click.ParamType[str]):
    """An id, for a document."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id as the API writes it."""
        return str(click.UUID.convert(value, param, ctx))


class Label(click.ParamType[str]):
    """The name of a tenant or key: 1 to 100 printable characters."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        if not (value.isprintable() and value == value.strip() and 1 <= len(value) <= 100):  # noqa: PLR2004
            self.fail("1 to 100 printable characters, no blank at either end", param, ctx)
        from setting_forms import OWN_TENANT_NAME  # brings pydantic along, which few commands need

        if value == OWN_TENANT_NAME:
            self.fail(f"{value} is Jobmill's own; take another name", param, ctx)
        return str(value)
