"""Who is told of a job's end: deliveries are written with the move that ends it, and with no other."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import moves, webhook_deliveries, webhook_endpoints
from models.database import Database
from models.documents import job_document
from models.ids import new_id
from models.job import OWN_TYPES, Ref, jobs
from models.moves import Ending
from models.moves.telling import EVENTS, Receiver, server_of
from models.queries import find_job
from models.states import LOSSES_UNTIL_DEAD, State
from models.webhook_deliveries import Delivery
from models.webhook_deliveries import webhook_deliveries as table
from tests.factories import job_in, jobs_in, new_job, row_of, tenant_id_of
from tests.workbench import statements

ERROR = '{"type": "ValueError", "message": "no luck", "code": "exception"}'
URL = "https://hooks.example.com/in"


def endpoint(session: Session, **told: Any) -> UUID:
    """An endpoint of the tenant `default` that listens to everything, unless told otherwise."""
    endpoint_id = new_id()
    tenant_id = told.pop("tenant_id", None) or tenant_id_of(session)
    usual = {"url": URL, "events": list(EVENTS.values()), "types": None, "description": "", "enabled": True}
    webhook_endpoints.add(session, endpoint_id, tenant_id, **usual | told, created_by="test")
    return endpoint_id


def deliveries(database: Database) -> list[Delivery]:
    with database.reading() as session:
        return list(reversed(webhook_deliveries.page(session, None, None, 1000)))


def body(database: Database, delivery_id: UUID) -> Any:
    with database.reading() as session:
        return orjson.loads(session.scalars(select(table.c.body).where(table.c.id == delivery_id)).one())


def succeed(session: Session, ref: Ref) -> Any:
    return moves.succeed(session, [Ending(ref, result='{"rows": 3}')])


def bury(session: Session, ref: Ref) -> Any:
    return moves.bury(session, [Ending(ref, error=ERROR)], "test")


def rescue(session: Session, ref: Ref) -> Any:
    return moves.rescue(session, [Ending(ref, error=ERROR)], "test")


def stop(session: Session, ref: Ref) -> Any:
    return moves.stop(session, [Ending(ref)], "test")


def cancel(session: Session, ref: Ref) -> Any:
    return moves.cancel(session, [ref.id], "test")


def discard(session: Session, ref: Ref) -> Any:
    return moves.discard(session, [ref], "test")


ASKED_TO_STOP = {"cancel_requested_at": func.now()}
ENDS: list[tuple[Callable[[Session, Ref], Any], State, dict[str, Any], str]] = [
    (succeed, State.RUNNING, {}, "job.succeeded"),
    (bury, State.RUNNING, {}, "job.dead"),
    (rescue, State.RUNNING, {"lost": LOSSES_UNTIL_DEAD - 1}, "job.dead"),
    (cancel, State.QUEUED, {}, "job.cancelled"),
    (cancel, State.DISPATCHED, {}, "job.cancelled"),
    (discard, State.DEAD, {}, "job.discarded"),
]


@pytest.mark.parametrize(("move", "state", "columns", "event"), ENDS, ids=[f"{e[0].__name__}-{e[1]}" for e in ENDS])
def test_every_move_that_ends_a_job_is_told_with_the_job_as_it_is_then(
    database: Database, move: Any, state: State, columns: Any, event: str
):
    with database.transaction() as session:
        to = endpoint(session)
        ref = job_in(session, state, **columns)
    with database.transaction() as session:
        assert move(session, ref)

    [told] = deliveries(database)
    assert (told.event, told.endpoint_id, told.job_id, told.state) == (event, to, ref.id, State.QUEUED)
    with database.reading() as session:
        job = find_job(session, ref.id, None)
    assert job is not None
    frozen = body(database, told.id)
    assert frozen == {"type": event, "timestamp": job_document(job)["finished_at"], "data": job_document(job)}
    with database.reading() as session:
        row = row_of(session, told.id)
    assert (row["type"], row["queue"], row["gate_id"], row["attempt"]) == ("webhook.deliver", "webhooks", to, 0)


def test_bodies_that_are_together_too_large_for_a_statement_are_kept_by_several(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhook_deliveries, "MOST_BYTES_AT_ONCE", 1)
    with database.transaction() as session:
        to = [endpoint(session) for _ in range(3)]
        ref = job_in(session, State.RUNNING)
    with database.transaction() as session, statements() as seen:
        succeed(session, ref)
    assert sum("INSERT INTO webhook_deliveries" in statement for statement in seen) == 3
    assert {told.endpoint_id for told in deliveries(database)} == set(to)


@pytest.mark.parametrize("stopping", [stop, rescue])
def test_a_running_job_that_was_cancelled_is_told_when_it_has_ended_and_not_before(database: Database, stopping: Any):
    with database.transaction() as session:
        endpoint(session)
        ref = job_in(session, State.RUNNING)
        moves.cancel(session, [ref.id], "test")
    assert deliveries(database) == []

    with database.transaction() as session:
        assert stopping(session, ref)
    assert [told.event for told in deliveries(database)] == ["job.cancelled"]


def test_a_move_that_is_rolled_back_tells_nobody(database: Database):
    with database.transaction() as session:
        endpoint(session)
        ref = job_in(session, State.RUNNING)

    def fail() -> None:
        with database.transaction() as session:
            succeed(session, ref)
            raise RuntimeError("the commit fails")

    with pytest.raises(RuntimeError):
        fail()
    assert deliveries(database) == []


def test_a_move_that_was_stale_tells_nobody(database: Database):
    with database.transaction() as session:
        endpoint(session)
        ref = job_in(session, State.RUNNING)
    for stale in (Ref(ref.id, ref.lease - 1), Ref(ref.id, ref.lease + 1)):
        with database.transaction() as session:
            assert succeed(session, stale) == bury(session, stale) == []
    assert deliveries(database) == []


def test_moves_that_end_no_job_tell_nobody(database: Database):
    with database.transaction() as session:
        endpoint(session)
        for move in (moves.retry, moves.snooze, moves.interrupt):
            assert move(session, [Ending(job_in(session, State.RUNNING), error=ERROR)], "test")
        assert rescue(session, job_in(session, State.RUNNING))
        assert moves.redrive(session, [job_in(session, State.DEAD)], "test")
    assert deliveries(database) == []


def test_an_endpoint_hears_only_what_it_asked_for_of_its_own_tenant(database: Database):
    with database.transaction() as session:
        other = tenant_id_of(session, "other")
        wanted = [endpoint(session, types=["csv.*"]), endpoint(session, types=["demo.echo", "csv.profile"])]
        endpoint(session, types=["csv"])
        endpoint(session, types=[])
        endpoint(session, events=["job.dead"])
        endpoint(session, enabled=False)
        endpoint(session, tenant_id=other)
        ref = job_in(session, State.RUNNING, type="csv.profile")
        succeed(session, ref)
    assert [told.endpoint_id for told in deliveries(database)] == wanted
    assert len({told.event_id for told in deliveries(database)}) == 1


@pytest.mark.parametrize("own", sorted(OWN_TYPES))
def test_nobody_is_told_of_jobmill_s_own_jobs(database: Database, own: str):
    with database.transaction() as session:
        endpoint(session)
        assert succeed(session, job_in(session, State.RUNNING, type=own))
        assert bury(session, job_in(session, State.RUNNING, type=own))
    assert deliveries(database) == []


def test_a_job_that_came_with_a_url_tells_that_of_the_events_it_named(database: Database):
    asked = {"url": "https://Example.com:8443/done?token=t", "events": ["job.dead"]}
    with database.transaction() as session:
        tenant_id = tenant_id_of(session)
        [recorded] = moves.record(session, [new_job(session, webhook=asked)])
        assert row_of(session, recorded.id)["webhook"] == asked
        succeed(session, job_in(session, State.RUNNING, webhook=asked))
        bury(session, job_in(session, State.RUNNING, webhook=asked))
    [told] = deliveries(database)
    assert (told.event, told.url, told.endpoint_id) == ("job.dead", asked["url"], None)
    with database.reading() as session:
        gate_id = row_of(session, told.id)["gate_id"]
    # All such URLs of one server share a gate, whatever follows its name.
    assert gate_id == Receiver(tenant_id, "https://example.com:8443/other").gate.id
    assert gate_id != Receiver(new_id(), asked["url"]).gate.id


def test_only_jobs_that_nobody_listens_to_succeed_unheard(database: Database):
    with database.transaction() as session:
        other = tenant_id_of(session, "other")
        heard = [
            job_in(session, State.RUNNING),
            job_in(session, State.RUNNING, tenant_id=other, webhook={"url": URL, "events": ["job.succeeded"]}),
        ]
        unheard = [
            job_in(session, State.RUNNING, tenant_id=other),
            job_in(session, State.RUNNING, tenant_id=other, webhook={"url": URL, "events": ["job.dead"]}),
            job_in(session, State.RUNNING, type="webhook.deliver"),
        ]
        endpoint(session)
        endpoint(session, tenant_id=other, enabled=False)
        endpoint(session, tenant_id=other, events=["job.dead", "job.cancelled"])
    with database.single() as session:
        moved = moves.succeed_unheard(session, [Ending(ref, result="1") for ref in heard + unheard])
    assert set(moved) == set(unheard)


def test_a_set_of_many_is_told_whole(database: Database):
    with database.transaction() as session:
        endpoint(session)
        refs = jobs_in(session, State.RUNNING, 130)
    with database.transaction() as session:
        moves.succeed(session, [Ending(ref, result="null") for ref in refs])
    assert {told.job_id for told in deliveries(database)} == {ref.id for ref in refs}


def test_a_number_of_any_length_is_told_as_it_is(database: Database):
    with database.transaction() as session:
        endpoint(session)
        ref = job_in(session, State.RUNNING, args={"value": 1.0})
    result = '{"n":12345678901234567890123456789,"f":1.0,"e":1e22}'
    with database.transaction() as session:
        moves.succeed(session, [Ending(ref, result=result)])
    [told] = deliveries(database)
    with database.reading() as session:
        raw = session.scalars(select(table.c.body).where(table.c.id == told.id)).one()
    assert result in raw.decode()
    assert '"args":{"value":1.0}' in raw.decode().replace(": ", ":")


def test_deliveries_go_with_their_jobs(database: Database):
    with database.transaction() as session:
        endpoint(session)
        succeed(session, job_in(session, State.RUNNING))
        session.execute(jobs.delete().where(jobs.c.type == "webhook.deliver"))
        assert session.scalar(select(func.count()).select_from(table)) == 0


def test_an_endpoint_that_is_made_while_a_job_ends_hears_of_it_or_not_and_nothing_breaks(database: Database):
    """Whatever the order of the two commits: no success is lost, and at most one delivery is made."""
    with database.transaction() as session:
        refs = jobs_in(session, State.RUNNING, 30)
    made = threading.Thread(target=lambda: database.run(endpoint))
    made.start()
    for ref in refs:
        quiet = database.run_single(lambda session, ref=ref: moves.succeed_unheard(session, [Ending(ref, result="1")]))
        if not quiet:
            assert database.run(lambda session, ref=ref: succeed(session, ref))
    made.join()
    with database.reading() as session:
        assert {row_of(session, ref)["state"] for ref in refs} == {State.SUCCEEDED}
    told = [one.job_id for one in deliveries(database)]
    assert len(told) == len(set(told))


def test_a_receiver_keeps_its_name_and_never_its_query():
    to = Receiver(UUID(int=7), "https://Example.com/path?secret=1")
    assert to.gate.leads_to == "https://example.com"
    assert replace(to, endpoint_id=UUID(int=9)).gate.id == UUID(int=9)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://example.com:443/a", "https://example.com"),
        ("https://EXAMPLE.com./b", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://[2001:db8::1]:8443/c", "https://[2001:db8::1]:8443"),
    ],
)
def test_one_server_is_one_receiver_however_it_is_spelled(url: str, server: str):
    assert server_of(url) == server


def test_the_text_of_documents_is_valid_json(database: Database):
    with database.transaction() as session:
        endpoint(session)
        stop_me = job_in(session, State.RUNNING)
        moves.cancel(session, [stop_me.id], "test")
        stop(session, stop_me)
        assert session.scalar(text("SELECT count(*) FROM webhook_deliveries")) == 1
    assert body(database, deliveries(database)[0].id)["data"]["result"] is None
