"""What every list has in common: `limit`, `cursor`, `next_cursor` and the `Link` header."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import BaseModel, Field

from api.endpoint import Call, Reply
from api.paging import Cursors

Row = TypeVar("Row")

Limit = Annotated[int, Field(ge=1, le=200)]


class ListQuery(BaseModel, extra="forbid"):
    """The parameters of every list."""

    limit: Limit = 50
    cursor: Annotated[str, Field(max_length=200)] | None = None


def page(
    call: Call,
    list_name: str,
    read: Callable[[UUID | None, int], Sequence[Row]],
    id_of: Callable[[Row], UUID],
    document: Callable[[Row], Mapping[str, object]],
) -> Reply:
    """One page: `read(before, limit)` gives rows newest first, those older than the id `before`."""
    cursors = Cursors(call.services.pepper(call.session), list_name, call.principal.tenant_id)
    before = cursors.read(call.query.cursor) if call.query.cursor else None
    limit = call.query.limit
    # One more than asked for tells whether there is a next page.
    rows = read(before, limit + 1)
    shown = rows[:limit]
    following = cursors.after(id_of(shown[-1])) if len(rows) > limit else None
    headers = {"Link": f'<{_address(following)}>; rel="next"'} if following else {}
    return Reply({"data": [document(row) for row in shown], "next_cursor": following}, headers=headers)


def _address(cursor: str) -> str:
    parameters = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return f"{request.path}?{urlencode([*parameters, ('cursor', cursor)])}"
