"""The answer to a batch in which jobs of an earlier time are answered again, with results that may be a gigabyte.

It is written piece by piece, each read from the database when its turn comes, and never parsed: the documents of the
database go into the answer as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from api.documents import error_document
from models import queries
from models.database import Database

PIECE_LENGTH = 2 * 1024 * 1024
"""Characters of args and results to read at once; a single job may have more."""


def pieces(
    database: Database,
    documents: Sequence[Mapping[str, Any]],
    looked_up: Mapping[int, UUID],
    lengths: Mapping[UUID, int],
) -> Iterator[bytes]:
    """The answer `{"data": documents}`; those at an index in `looked_up` get what is kept of that job.

    `lengths` tells how much that is.
    """
    before = b'{"data":['
    for indices in _portions([lengths.get(looked_up[at], 0) if at in looked_up else 0 for at in range(len(documents))]):
        ids = [looked_up[at] for at in indices if at in looked_up]
        found = database.read(partial(queries.documents_of, ids=ids)) if ids else {}
        whole = (_whole(documents[at], found.get(looked_up[at]) if at in looked_up else None) for at in indices)
        yield before + b",".join(orjson.dumps(document) for document in whole)
        before = b","
    yield b"]}"


def _portions(lengths: Sequence[int]) -> Iterator[range]:
    """Ranges of indices, each with as much as may be read at once, or a single one."""
    first, total = 0, 0
    for at, length in enumerate(lengths):
        if at > first and total + length > PIECE_LENGTH:
            yield range(first, at)
            first, total = at, 0
        total += length
    yield range(first, len(lengths))


def _whole(document: Mapping[str, Any], found: queries.Documents | None) -> Mapping[str, Any]:
    if found is None:
        return document
    told = {
        "args": orjson.Fragment(found.args),
        "result": orjson.Fragment(found.result or "null"),
        "error": error_document(found.error),
    }
    return {**document, "job": {**document["job"], **told}}
