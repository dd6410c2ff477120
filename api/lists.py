"""What every list has in common: `limit`, `cursor`, `next_cursor` and the `Link` header."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import BaseModel, BeforeValidator, Field

from api.endpoint import Call, Reply
from api.paging import LONGEST, Cursors

Row = TypeVar("Row")


def _digits(value: object) -> object:
    # pydantic would take `1_0`, ` 5` and the digits of every script as well.
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError("a limit is a whole number in digits")
    return value


Limit = Annotated[int, Field(ge=1, le=200, description="How many to answer at most."), BeforeValidator(_digits)]
Cursor = Annotated[str, Field(max_length=LONGEST, description="`next_cursor` of the page before, as it was given.")]

_NO_FILTERS = {"limit", "cursor", "fields"}
"""Parameters that may differ from page to page: they change nothing about which entries follow."""


@dataclass(frozen=True)
class Part(Generic[Row]):
    """Rows of a list, and the name behind which it goes on where that is not for there being more rows than asked."""

    rows: Sequence[Row]
    goes_on_behind: str | None = None


class ListQuery(BaseModel, extra="forbid"):
    """The parameters of every list."""

    limit: Limit = 50
    cursor: Cursor | None = None


def page(
    call: Call,
    list_name: str,
    read: Callable[[UUID | None, int], Sequence[Row] | Part[Row]],
    id_of: Callable[[Row], UUID],
    document: Callable[[Row], Mapping[str, object]],
) -> Reply:
    """One page: `read(before, limit)` gives rows newest first, those older than the id `before`."""
    return page_by_name(
        call,
        list_name,
        lambda after, limit: read(None if after is None else UUID(after), limit),
        lambda row: str(id_of(row)),
        document,
    )


def page_by_name(
    call: Call,
    list_name: str,
    read: Callable[[str | None, int], Sequence[Row] | Part[Row]],
    name_of: Callable[[Row], str],
    document: Callable[[Row], Mapping[str, object]],
) -> Reply:
    """One page of what is ordered by a name: `read(after, limit)` gives those behind the name `after`."""
    scope = f"{list_name}\0{request.path}\0{urlencode(sorted(_filters()))}"
    cursors = Cursors(call.services.pepper(call.session), scope, call.principal.tenant_id)
    after = cursors.read(call.query.cursor) if call.query.cursor is not None else None
    limit = call.query.limit
    # One more than asked for tells whether there is a next page.
    found = read(after, limit + 1)
    part = found if isinstance(found, Part) else Part(found)
    shown = part.rows[:limit]
    last = name_of(shown[-1]) if len(part.rows) > limit else part.goes_on_behind
    following = None if last is None else cursors.after(last)
    headers = {"Link": f'<{_address(following)}>; rel="next"'} if following else {}
    return Reply({"data": [document(row) for row in shown], "next_cursor": following}, headers=headers)


def _filters() -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.args.items(multi=True) if name not in _NO_FILTERS]


def _address(cursor: str) -> str:
    parameters = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return f"{request.path}?{urlencode([*parameters, ('cursor', cursor)])}"
