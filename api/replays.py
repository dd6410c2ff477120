"""The answer to a batch in which jobs of an earlier time are answered again, with results that may be a gigabyte.

It is written piece by piece, each read from the database when its turn comes, and never parsed: the documents of the
database go into the answer as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from api.documents import job_document
from api.problems import Problem
from models import queries
from models.database import Database
from models.job import Job

PIECE_LENGTH = 2 * 1024 * 1024
"""Characters of args and results to read at once; a single job may have more."""


def pieces(
    database: Database,
    documents: Sequence[Mapping[str, Any]],
    looked_up: Mapping[int, UUID],
    lengths: Mapping[UUID, int],
    tell: Callable[[Problem], Mapping[str, Any]],
) -> Iterator[bytes]:
    """The answer `{"data": documents}`; those at an index in `looked_up` tell that job as it is by then.

    `lengths` tells how much there is of it. A job that was pruned since is a problem, told by `tell`.
    """
    before = b'{"data":['
    for indices in _portions([lengths.get(looked_up[at], 0) if at in looked_up else 0 for at in range(len(documents))]):
        ids = [looked_up[at] for at in indices if at in looked_up]
        found = database.read(partial(queries.find_unparsed, ids=ids)) if ids else {}
        items = (_item(documents[at], looked_up.get(at), found, tell) for at in indices)
        yield before + b",".join(orjson.dumps(item) for item in items)
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


def _item(
    document: Mapping[str, Any],
    job_id: UUID | None,
    found: Mapping[UUID, Job],
    tell: Callable[[Problem], Mapping[str, Any]],
) -> Mapping[str, Any]:
    if job_id is None:
        return document
    if job_id not in found:
        problem = tell(Problem("not-found", f"There is no job {job_id} any more: it was pruned meanwhile."))
        return {"status": problem["status"], "problem": problem}
    job = found[job_id]
    whole = replace(job, args=orjson.Fragment(job.args), result=orjson.Fragment(job.result or "null"))
    return {**document, "job": job_document(whole)}
