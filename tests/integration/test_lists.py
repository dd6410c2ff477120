"""Lists with several filters, or over all tenants: each page looks at so many jobs at most, and nothing is missed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, delete, event
from sqlalchemy.orm import Session

from models import lists
from models.database import Database
from models.job import Job, jobs
from models.lists import JobFilter, JobPage
from models.states import FINAL, LIVE, State
from tests.doors import JOBS, Doors
from tests.factories import columns_in, insert_jobs, tenant_id_of

Read = Callable[[Callable[[Session], JobPage]], JobPage]
TENANTS = ("blue", "green")
COLOURS = ("red", "white")
JOBS_THERE = 120


@pytest.fixture(autouse=True)
def look_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LOOKED_AT", 7)


def plant(session: Session) -> None:
    """Jobs whose types, queues, states, keys and tags each repeat at another pace."""
    tenants = [tenant_id_of(session, name) for name in TENANTS]
    rows = [
        columns_in(
            list(State)[(number // 2) % len(State)],
            tenants[number % 2],
            type=f"type-{number // 30}",
            queue=f"queue-{number % 3}",
            unique_key=f"key-{number}" if number % 20 else "key",
            tags={"colour": COLOURS[number // 60]},
        )
        for number in range(JOBS_THERE)
    ]
    insert_jobs(session, rows)


FILTERS: dict[str, dict[str, Any]] = {
    "type and queue": {"types": ("type-0",), "queue": "queue-1"},
    "types and queue": {"types": ("type-0", "type-3", "none"), "queue": "queue-1"},
    "final states and types": {"states": FINAL, "types": ("type-0", "type-2")},
    "final states and queue": {"states": FINAL, "queue": "queue-2"},
    "live states and queue": {"states": LIVE, "queue": "queue-2"},
    "tag and type": {"tag": ("colour", "red"), "types": ("type-1",)},
    "tag and unique key": {"tag": ("colour", "red"), "unique_key": "key"},
    "unique key and state": {"unique_key": "key", "states": (State.QUEUED,)},
    "everything": {"tag": ("colour", "red"), "types": ("type-1",), "states": FINAL, "queue": "queue-0"},
    "type": {"types": ("type-0",)},
    "tag": {"tag": ("colour", "red")},
    "state": {"states": (State.DEAD,)},
    "unique key": {"unique_key": "key"},
    "nothing": {},
}


def _wanted(job: Job, wanted: JobFilter) -> bool:
    return (
        wanted.tenant_id in {None, job.tenant_id}
        and (not wanted.states or job.state in wanted.states)
        and (not wanted.types or job.type in wanted.types)
        and wanted.queue in {None, job.queue}
        and wanted.unique_key in {None, job.unique_key}
        and (wanted.tag is None or job.tags.get(wanted.tag[0]) == wanted.tag[1])
    )


def _pages(read: Read, wanted: JobFilter, limit: int) -> Iterator[list[UUID]]:
    before: UUID | None = None
    while True:
        page = read(partial(lists.list_jobs, wanted=wanted, before=before, limit=limit))
        ids = [job.id for job in page.jobs]
        yield ids
        before = page.goes_on_before or (ids[-1] if len(ids) == limit else None)
        if before is None:
            return


@pytest.mark.parametrize("tenant", ["blue", None])
@pytest.mark.parametrize("limit", [1, 5, 200])
@pytest.mark.parametrize("filters", FILTERS)
def test_pages_put_together_are_every_job_of_those_filters_once(
    session: Session, filters: str, limit: int, tenant: str | None
) -> None:
    plant(session)
    everything = lists.list_jobs(session, JobFilter(None), None, JOBS_THERE + 1).jobs
    wanted = JobFilter(tenant_id_of(session, tenant) if tenant else None, **FILTERS[filters])

    found = [job_id for page in _pages(lambda step: step(session), wanted, limit) for job_id in page]

    assert found == [job.id for job in everything if _wanted(job, wanted)]
    assert found


@pytest.mark.parametrize("limit", [1, 5, 20])
@pytest.mark.parametrize("filters", ["type and queue", "types and queue", "final states and queue", "tag and type"])
def test_no_job_is_passed_over_while_others_leave_between_statements(
    database: Database, filters: str, limit: int
) -> None:
    """Others, which a page has looked at: an end that is asked for after they left lies behind jobs not looked at."""
    with database.transaction() as session:
        plant(session)
        wanted = JobFilter(tenant_id_of(session, "blue"), **FILTERS[filters])
        everything = lists.list_jobs(session, JobFilter(None), None, JOBS_THERE + 1).jobs
    unwanted = [job.id for job in everything if job.tenant_id == wanted.tenant_id and not _wanted(job, wanted)]

    with _leaving(database, unwanted):
        found = [job_id for page in _pages(database.read, wanted, limit) for job_id in page]

    assert found == [job.id for job in everything if _wanted(job, wanted)]


@contextmanager
def _leaving(database: Database, ids: list[UUID]) -> Iterator[None]:
    """Have the newest few of the jobs go after each statement of the engine that reads."""
    going = list(ids)

    def remove(connection: Connection, *_rest: Any) -> None:
        some = [going.pop(0) for _ in range(min(5, len(going)))]
        if connection.get_execution_options().get("leaves") is None and some:
            with database.pools.heart.connect().execution_options(leaves=True) as other, other.begin():
                other.execute(delete(jobs).where(jobs.c.id.in_(some)))

    event.listen(database.pools.reads, "after_cursor_execute", remove)
    try:
        yield
    finally:
        event.remove(database.pools.reads, "after_cursor_execute", remove)


def test_a_page_without_jobs_tells_where_the_search_goes_on(database: Database) -> None:
    doors = Doors(database)
    caller = doors.caller("blue")
    database.run(plant)
    address = f"{JOBS}?type=type-0&state=dead&limit=2"

    pages = [caller.get(address).json]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(caller.get(f"{address}&cursor={cursor}").json)

    jobs = [job for page in pages for job in page["data"]]
    assert [(job["type"], job["state"]) for job in jobs] == [("type-0", "dead")] * 2
    assert any(page["next_cursor"] and len(page["data"]) < 2 for page in pages)
