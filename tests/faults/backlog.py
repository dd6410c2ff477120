"""Many jobs at once, without a client that submits each: copies of one that a client did submit."""

from typing import Any

from models.job import jobs
from tests.acceptance.installation import Installation, Json

AT_ONCE = 20_000
OWN = {"id", "idempotency_key", "request_hash", "created_at", "due_at"}
"""What a copy has of its own. The first half of its id is the moment of the job it is a copy of."""
COPIED = ", ".join(column.name for column in jobs.columns if column.name not in OWN)


def queue_copies(installation: Installation, job: Json, number: int) -> list[Json]:
    """So many copies of a job that is still queued. They count as accepted."""
    copies = [{"id": str(copy)} for (copy,) in _copy(installation, job, number, "id")]
    installation.accepted += copies
    return copies


def queue_backlog(installation: Installation, job: Json, number: int) -> None:
    """The same, for so many that nobody wants to hear of each; to be ended by `forget_backlog`."""
    for first in range(0, number, AT_ONCE):  # as they come over HTTP: nobody has a million in one transaction
        wanted = min(AT_ONCE, number - first)
        assert _copy(installation, job, wanted, "count(*)") == [(wanted,)]


def forget_backlog(installation: Installation, job: Json) -> None:
    """Delete those copies that nobody has taken yet. The others count as accepted."""
    # Whom a dispatcher claims at this moment is left to it: each would wait for what the other holds.
    free = f"SELECT id FROM jobs WHERE state = 'queued' AND lease = 0 AND type = '{job['type']}' FOR UPDATE SKIP LOCKED"  # noqa: S608
    installation.sql(f"DELETE FROM jobs WHERE id IN ({free})")  # noqa: S608
    known = {job["id"] for job in installation.accepted}
    taken = {str(found) for (found,) in installation.sql("SELECT id FROM jobs")} - known
    installation.accepted += [{"id": found} for found in sorted(taken)]


def _copy(installation: Installation, job: Json, number: int, wanted: str) -> list[tuple[Any, ...]]:
    return installation.sql(f"""
        WITH copies AS (
            INSERT INTO jobs (id, created_at, due_at, {COPIED})
            SELECT overlay(gen_random_uuid()::text PLACING left(id::text, 15) FROM 1)::uuid, now(), now(), {COPIED}
            FROM jobs, generate_series(1, {number}) WHERE id = '{job["id"]}' AND state = 'queued'
            RETURNING id
        )
        SELECT {wanted} FROM copies
    """)  # noqa: S608 - our own words
