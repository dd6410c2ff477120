"""Redrives over the API and by their job: what is pinned, that nothing is replayed twice, and how they are steered."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import delete, func, select, update
from werkzeug.test import TestResponse

import jobs.registry
from jobs import redrives as redrives_module
from jobs.builtin import redrive as handler
from jobs.outbound import Outbound
from jobs.outcomes import LeaseLost
from jobs.redrives import PRIORITY, QUEUE, TYPE
from jobs.scopes import ROLES
from models import moves, redrives
from models.database import Database
from models.dialect import POSTGRESQL, SQLITE
from models.doorbell import LocalDoorbell
from models.ids import new_id
from models.job import Ref, job_events
from models.job import jobs as jobs_table
from models.moves import Ending
from models.redrive_letters import forget as forget_letters
from models.redrive_letters import redrive_letters
from models.states import Move, State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import ago, history_of, jobs_in, row_of
from workers.executor import Executor
from workers.flow import Flow

REDRIVES = "/v1/redrives"
LOG = "/v1/audit-log"
BOOM = {"type": "Boom", "message": "no column 17", "code": "exception", "place": "acme.reports:monthly"}
EXPIRY = timedelta(seconds=60)


@pytest.fixture(scope="module", params=[POSTGRESQL, SQLITE])
def doors(request: pytest.FixtureRequest) -> Doors:
    return Doors(request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


@pytest.fixture
def database(doors: Doors) -> Database:
    return doors.database


def plant(caller: Caller, how_many: int = 1, state: State = State.DEAD, **columns: Any) -> list[Ref]:
    told = {"tenant_id": caller.tenant_id, "type": "test.echo", "queue": queue_of(caller), "error": BOOM, **columns}
    return caller.doors.database.run(lambda session: jobs_in(session, state, how_many, **told))


def queue_of(caller: Caller) -> str:
    return f"q{caller.tenant_id}"


def post(caller: Caller, **body: Any) -> TestResponse:
    sent = {"Content-Type": "application/json"}
    return caller.request("POST", REDRIVES, data=orjson.dumps({"filter": {}, **body}), headers=sent)


def begun(caller: Caller, **body: Any) -> str:
    answer = post(caller, **body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{REDRIVES}/{answer.json['id']}"
    return str(answer.json["id"])


def told(caller: Caller, redrive_id: str) -> dict[str, Any]:
    answer = caller.get(f"{REDRIVES}/{redrive_id}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json
    return document


def steer(caller: Caller, redrive_id: str, how: str) -> TestResponse:
    return caller.post(f"{REDRIVES}/{redrive_id}/{how}")


def started(database: Database, redrive_id: str) -> Ref:
    """Its job, running as a worker has it."""

    return database.run(
        lambda session: moves.start(session, [_claimed(session, redrive_id)], new_id())[0].ref,
    )


def _claimed(session: Any, redrive_id: str) -> Ref:
    refs = [job.ref for job in moves.claim(session, QUEUE, PRIORITY, 1000, EXPIRY)]
    moves.release(session, [ref for ref in refs if str(ref.id) != redrive_id])
    return next(ref for ref in refs if str(ref.id) == redrive_id)


def step(database: Database, ref: Ref, seconds: float = 1.0) -> tuple[redrives.Redrive, Any]:
    """A step as if the last had been so long ago."""
    return database.run(lambda session: _later(session, ref, seconds))


def _later(session: Any, ref: Ref, seconds: float) -> Any:
    then = ago(seconds=seconds)
    session.execute(update(redrives.redrives).where(redrives.redrives.c.id == ref.id).values(stepped_at=then))
    return redrives_module.step(session, ref)


def states(database: Database, refs: list[Ref]) -> dict[State, int]:
    with database.reading() as session:
        found = [State(row_of(session, ref)["state"]) for ref in refs]
    return {state: found.count(state) for state in set(found)}


def end(database: Database, refs: list[Ref], *, die: bool = False) -> None:
    """Have redriven jobs end, as their worker would."""

    def work(session: Any) -> None:
        rows = [row_of(session, ref) for ref in refs]
        waiting = [row for row in rows if row["state"] == State.QUEUED]
        lanes = {(row["queue"], row["priority"]) for row in waiting}
        for queue, priority in lanes:
            claimed = moves.claim(session, queue, priority, 1000, EXPIRY)
            begun = moves.start(session, [job.ref for job in claimed], new_id())
            endings = [Ending(job.ref, result="1", error=orjson.dumps(BOOM).decode()) for job in begun]
            moves.bury(session, endings, "worker:test") if die else moves.succeed(session, endings)

    database.run(work)


def redriven(database: Database, ref: Ref) -> int:
    with database.reading() as session:
        return sum(event["move"] == Move.REDRIVE for event in history_of(session, ref))


# What it would do, and what is refused


def test_a_dry_run_counts_exactly_tells_the_groups_and_changes_nothing(caller: Caller):
    boom = plant(caller, 3)
    bang = plant(caller, 2, error=BOOM | {"type": "Bang"})
    plant(caller, 2, State.DISCARDED)
    plant(caller.doors.caller(), 4)
    answer = post(caller, dry_run=True)
    assert answer.status_code == 200
    assert "Location" not in answer.headers
    assert answer.json["matched"] == 5
    assert [(group["error_type"], group["count"]) for group in answer.json["groups"]] == [("Boom", 3), ("Bang", 2)]
    assert {letter["id"] for letter in answer.json["samples"]} == {str(ref.id) for ref in boom + bang}
    assert states(caller.doors.database, boom + bang) == {State.DEAD: 5}
    assert caller.get(REDRIVES).json["data"] == []
    narrow = post(caller, dry_run=True, filter={"error": "Bang"}).json
    assert (narrow["matched"], narrow["groups"][0]["sample_id"]) == (2, str(max(ref.id for ref in bang)))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"filter": {"colour": "red"}}, "/filter/colour"),
        ({"filter": None}, "/filter"),
        ({"action": "resurrect"}, "/action"),
        ({"rate_per_second": 0}, "/rate_per_second"),
        ({"rate_per_second": "50"}, "/rate_per_second"),
        ({"rate_per_second": 1001}, "/rate_per_second"),
        ({"ramp_seconds": -1}, "/ramp_seconds"),
        ({"abort_when_failure_ratio": 0}, "/abort_when_failure_ratio"),
        ({"abort_when_failure_ratio": 1.1}, "/abort_when_failure_ratio"),
        ({"priority": 101}, "/priority"),
        ({"dry_run": "yes"}, "/dry_run"),
    ],
)
def test_what_no_redrive_can_be_is_refused_and_told_where(caller: Caller, body: dict[str, Any], pointer: str):
    plant(caller)
    answer = post(caller, **body)
    problem = assert_problem(answer, 400, "invalid-request")
    assert [flaw["pointer"] for flaw in problem["errors"]] == [pointer]


def test_more_letters_than_one_redrive_takes_are_refused_and_nothing_is_done(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redrives_module, "MOST_LETTERS", 2)
    refs = plant(caller, 3)
    problem = assert_problem(post(caller), 409, "too-many-letters")
    assert "3 dead letters match" in problem["detail"]
    assert caller.get(REDRIVES).json["data"] == []
    assert caller.get(f"{JOBS}?type={TYPE}").json["data"] == []
    assert states(caller.doors.database, refs) == {State.DEAD: 3}


def test_nobody_submits_a_redrives_job_by_himself(caller: Caller):
    sent = {"Content-Type": "application/json"}
    answer = caller.request("POST", JOBS, data=orjson.dumps({"type": TYPE, "args": {}}), headers=sent)
    assert_problem(answer, 400, "invalid-request")


def test_nobody_else_puts_a_job_into_its_queue(caller: Caller):
    sent = {"Content-Type": "application/json"}
    body = {"type": "test.echo", "args": {}, "queue": QUEUE, "priority": 100}
    problem = assert_problem(
        caller.request("POST", JOBS, data=orjson.dumps(body), headers=sent), 400, "invalid-request"
    )
    assert [(flaw["pointer"], flaw["code"]) for flaw in problem["errors"]] == [("/queue", "reserved-queue")]


# Who may


def test_who_may_only_submit_ends_no_redrive_by_its_job(doors: Doors):
    owner = doors.caller()
    plant(owner)
    redrive_id = begun(owner)
    submitter = doors.caller(tenant=_name_of(doors, owner), scopes=ROLES["submitter"])
    for how in ("cancel", "run-now"):
        assert_problem(submitter.post(f"{JOBS}/{redrive_id}/{how}"), 403, "forbidden")
    assert told(owner, redrive_id)["state"] == "running"


def test_a_viewer_sees_and_does_nothing_and_to_another_tenant_there_is_no_redrive(doors: Doors):
    owner = doors.caller()
    plant(owner)
    redrive_id = begun(owner)
    with doors.database.reading() as session:
        tenant = session.execute(select(redrives.redrives.c.tenant_id)).scalars().first()
    assert tenant is not None
    viewer = doors.caller(tenant=_name_of(doors, owner), scopes=ROLES["viewer"])
    stranger = doors.caller(scopes=ROLES["operator"])
    assert told(viewer, redrive_id)["matched"] == 1
    assert_problem(post(viewer, dry_run=True), 403, "forbidden")
    assert_problem(stranger.get(f"{REDRIVES}/{redrive_id}"), 404, "not-found")
    assert stranger.get(REDRIVES).json["data"] == []
    for how in ("pause", "resume", "cancel"):
        assert_problem(steer(viewer, redrive_id, how), 403, "forbidden")
        assert_problem(steer(stranger, redrive_id, how), 404, "not-found")
    assert told(owner, redrive_id)["state"] == "running"


def _name_of(doors: Doors, caller: Caller) -> str:
    from models.identity import tenants

    with doors.database.reading() as session:
        return session.execute(select(tenants.c.name).where(tenants.c.id == caller.tenant_id)).scalar_one()


def test_a_platform_key_redrives_the_letters_of_every_tenant(doors: Doors):
    mine, yours = plant(doors.caller(), type="test.strict"), plant(doors.caller(), type="test.strict")
    platform = doors.caller(tenant=None)
    redrive_id = begun(platform, filter={"type": "test.strict"}, abort_when_failure_ratio=None)
    run(doors.database, redrive_id)
    assert states(doors.database, mine + yours) == {State.QUEUED: 2}
    assert told(platform, redrive_id)["tenant_id"] is None


# What its job does


def run(database: Database, redrive_id: str, rounds: int = 40) -> Ref:
    """Step by step until it ends or waits for answers only."""
    ref = started(database, redrive_id)
    for _ in range(rounds):
        redrive, following = step(database, ref)
        if following.end is not None or redrive.handled == redrive.matched:
            return ref
    raise AssertionError(redrive)


def test_every_pinned_letter_is_replayed_once_below_new_jobs_and_counted_by_what_came_of_it(
    caller: Caller, database: Database
):
    refs = plant(caller, 15, priority=10)
    redrive_id = begun(caller)
    late = plant(caller, 2)
    ref = started(database, redrive_id)
    step(database, ref)
    assert states(database, refs) == {State.QUEUED: 15}
    assert states(database, late) == {State.DEAD: 2}
    with database.reading() as session:
        assert {row_of(session, one)["priority"] for one in refs} == {-100}
        (event,) = history_of(session, refs[0])
    assert (event["move"], event["reason"]) == (Move.REDRIVE, f"redrive {redrive_id}")
    end(database, refs[:1])
    step(database, ref, 0)
    document = told(caller, redrive_id)
    assert (document["replayed"], document["succeeded_again"], document["unanswered"]) == (15, 15, 0)
    redrive, following = step(database, ref, 0)
    assert following.end == "succeeded"
    assert told(caller, redrive_id)["state"] == "succeeded"
    assert told(caller, redrive_id)["finished_at"] is not None
    assert {redriven(database, one) for one in refs} == {1}
    assert redrive.handled == 15


def test_a_letter_that_dies_again_is_counted_and_does_not_come_back(caller: Caller, database: Database):
    refs = plant(caller, 4)
    redrive_id = begun(caller)
    ref = started(database, redrive_id)
    step(database, ref)
    end(database, refs, die=True)
    redrive, following = step(database, ref)
    assert (redrive.died_again, following.end) == (4, "aborted")
    document = told(caller, redrive_id)
    assert document["state"] == "aborted"
    assert document["reason"] == "Of the last 4 letters that were answered, 4 died again."
    assert states(database, refs) == {State.DEAD: 4}
    assert {redriven(database, one) for one in refs} == {1}


def test_with_a_handler_that_still_fails_twenty_letters_are_lost_and_no_more(caller: Caller, database: Database):
    refs = plant(caller, 200)
    redrive_id = begun(caller, rate_per_second=1000)
    ref = started(database, redrive_id)
    for _ in range(5):
        redrive, following = step(database, ref)
        if following.end:
            break
        end(database, refs, die=True)
    assert (redrive.state, redrive.ever_replayed, redrive.died_again) == ("aborted", 20, 20)


def test_an_aborted_one_hears_out_what_it_has_replayed(caller: Caller, database: Database):
    refs = plant(caller, 40)
    redrive_id = begun(caller, rate_per_second=1000)
    ref = started(database, redrive_id)
    step(database, ref)
    replayed = [one for one in refs if redriven(database, one)]
    with database.transaction() as session:
        claimed = moves.claim(session, queue_of(caller), -100, 15, EXPIRY)
        running = moves.start(session, [job.ref for job in claimed], new_id())
        error = orjson.dumps(BOOM).decode()
        moves.bury(session, [Ending(job.ref, error=error) for job in running], "worker:test")
    _, following = step(database, ref)
    assert following.end is None
    document = told(caller, redrive_id)
    assert (document["state"], document["died_again"], document["unanswered"]) == ("aborted", 15, 5)
    end(database, replayed)
    redrive, following = step(database, ref)
    assert (redrive.state, redrive.died_again, redrive.succeeded_again, redrive.unanswered) == ("aborted", 15, 5, 0)
    assert (following.end, redrive.ever_replayed) == ("aborted", 20)


def test_letters_that_others_replay_discard_or_prune_meanwhile_are_skipped(caller: Caller, database: Database):
    refs = plant(caller, 6)
    redrive_id = begun(caller)
    assert caller.post(f"/v1/dead-letters/{refs[0].id}/replay").status_code == 202
    end(database, refs[:1], die=True)
    caller.post(f"/v1/dead-letters/{refs[1].id}/discard")
    database.run(lambda session: session.execute(delete(jobs_table).where(jobs_table.c.id == refs[2].id)))
    run(database, redrive_id)
    document = told(caller, redrive_id)
    assert (document["replayed"], document["skipped"], document["waiting"]) == (3, 3, 0)
    assert redriven(database, refs[0]) == 1
    assert states(database, refs[:2]) == {State.DEAD: 1, State.DISCARDED: 1}


def test_two_redrives_of_the_same_letters_replay_each_once(caller: Caller, database: Database):
    refs = plant(caller, 100)
    ids = [begun(caller, abort_when_failure_ratio=None, rate_per_second=1000) for _ in range(2)]
    begun_ = [started(database, redrive_id) for redrive_id in ids]
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda ref: [step(database, ref) for _ in range(3)], begun_))
    assert {redriven(database, ref) for ref in refs} == {1}
    documents = [told(caller, redrive_id) for redrive_id in ids]
    assert sum(document["replayed"] for document in documents) == 100
    assert sum(document["skipped"] for document in documents) == 100


def test_a_discarding_redrive_gives_them_all_up(caller: Caller, database: Database):
    refs = plant(caller, 60)
    redrive_id = begun(caller, action="discard", rate_per_second=1000)
    ref = run(database, redrive_id)
    step(database, ref)
    document = told(caller, redrive_id)
    assert (document["state"], document["discarded"], document["replayed"]) == ("succeeded", 60, 0)
    assert states(database, refs) == {State.DISCARDED: 60}


def test_it_keeps_their_own_priority_if_told_to(caller: Caller, database: Database):
    (ref,) = plant(caller, priority=7)
    run(database, begun(caller, priority=None))
    with database.reading() as session:
        assert row_of(session, ref)["priority"] == 7


def test_a_worker_that_lost_the_job_does_no_step_more(caller: Caller, database: Database):
    refs = plant(caller, 3)
    redrive_id = begun(caller)
    stale = started(database, redrive_id)
    database.run(lambda session: moves.interrupt(session, [Ending(stale)], "worker:test"))
    with pytest.raises(LeaseLost):
        step(database, stale)
    assert states(database, refs) == {State.DEAD: 3}


def test_a_failing_letter_is_seen_before_it_is_dead(caller: Caller, database: Database):
    refs = plant(caller, 2, max_attempts=5)
    redrive_id = begun(caller)
    ref = started(database, redrive_id)
    step(database, ref)

    def fail(session: Any) -> None:
        claimed = moves.claim(session, queue_of(caller), -100, 1, EXPIRY)
        begun = moves.start(session, [job.ref for job in claimed], new_id())
        endings = [Ending(job.ref, error=orjson.dumps(BOOM).decode(), delay_seconds=60) for job in begun]
        moves.retry(session, endings, "worker:test")

    database.run(fail)
    step(database, ref, 0)
    document = told(caller, redrive_id)
    assert (document["failing"], document["unanswered"], document["replayed"]) == (1, 2, 2)
    assert states(database, refs) == {State.QUEUED: 2}


def test_what_is_answered_after_its_end_is_still_told(caller: Caller, database: Database):
    refs = plant(caller, 5)
    redrive_id = begun(caller, abort_when_failure_ratio=None)
    run(database, redrive_id)
    assert steer(caller, redrive_id, "cancel").json["state"] == "cancelled"
    assert told(caller, redrive_id)["unanswered"] == 5
    end(database, refs)
    document = told(caller, redrive_id)
    assert (document["unanswered"], document["succeeded_again"]) == (0, 5)


# Steering


def test_a_paused_one_handles_nothing_until_it_is_resumed(caller: Caller, database: Database):
    refs = plant(caller, 30)
    redrive_id = begun(caller, rate_per_second=10, abort_when_failure_ratio=None)
    ref = started(database, redrive_id)
    step(database, ref)
    assert steer(caller, redrive_id, "pause").json["state"] == "paused"
    assert steer(caller, redrive_id, "pause").status_code == 200
    _, following = step(database, ref)
    assert following.end == "paused"
    assert states(database, refs) == {State.QUEUED: 10, State.DEAD: 20}
    assert told(caller, redrive_id)["rate_now"] == 0
    resumed = steer(caller, redrive_id, "resume")
    assert (resumed.json["state"], resumed.json["rate_now"]) == ("running", 10)
    step(database, ref)
    assert states(database, refs) == {State.QUEUED: 20, State.DEAD: 10}


def test_resuming_makes_its_sleeping_job_due(caller: Caller, database: Database):
    plant(caller)
    redrive_id = begun(caller)
    steer(caller, redrive_id, "pause")
    ref = started(database, redrive_id)
    database.run(lambda session: moves.snooze(session, [Ending(ref, delay_seconds=60)], "worker:test"))
    steer(caller, redrive_id, "resume")
    with database.reading() as session:
        row = row_of(session, ref)
        assert row["due_at"] <= session.scalar(select(func.max(job_events.c.at)).where(job_events.c.job_id == ref.id))


def test_a_cancelled_one_ends_with_its_job_and_cannot_be_steered_more(caller: Caller, database: Database):
    refs = plant(caller, 3)
    redrive_id = begun(caller)
    document = steer(caller, redrive_id, "cancel").json
    assert document["state"] == "cancelled"
    assert document["finished_at"] is not None
    assert caller.get(f"{JOBS}/{redrive_id}").json["state"] == "cancelled"
    assert steer(caller, redrive_id, "cancel").status_code == 200
    for how in ("pause", "resume"):
        assert_problem(steer(caller, redrive_id, how), 409, "redrive-ended")
    assert states(database, refs) == {State.DEAD: 3}


def test_one_whose_job_is_cancelled_by_other_hands_is_cancelled_too(caller: Caller):
    plant(caller)
    redrive_id = begun(caller)
    assert caller.post(f"{JOBS}/{redrive_id}/cancel").status_code in {200, 202}
    assert told(caller, redrive_id)["state"] == "cancelled"
    assert_problem(steer(caller, redrive_id, "resume"), 409, "redrive-ended")


def test_who_did_what_is_in_the_audit_log(caller: Caller, database: Database):
    plant(caller, 2)
    redrive_id = begun(caller, filter={"error": "Boom"})
    for how in ("pause", "resume"):
        steer(caller, redrive_id, how)
    ref = run(database, redrive_id)
    end(database, [Ref(UUID(item["id"]), 0) for item in caller.get(f"{JOBS}?type=test.echo").json["data"]])
    step(database, ref)
    entries = caller.get(LOG).json["data"]
    assert [entry["action"] for entry in entries] == [
        "end_redrive",
        "resume_redrive",
        "pause_redrive",
        "create_redrive",
    ]
    ended, resumed, _, created = entries
    assert created["detail"]["count"] == 2
    assert created["detail"]["filter"] == {"error": "Boom"}
    assert (resumed["detail"]["before"], resumed["detail"]["after"]) == ({"state": "paused"}, {"state": "running"})
    assert (ended["actor"], ended["detail"]["succeeded_again"]) == (f"job:{redrive_id}", 2)


def test_one_that_is_paused_still_tells_what_becomes_of_its_letters(caller: Caller, database: Database):
    refs = plant(caller, 5)
    redrive_id = begun(caller)
    ref = started(database, redrive_id)
    step(database, ref)
    steer(caller, redrive_id, "pause")
    end(database, refs)
    assert told(caller, redrive_id)["succeeded_again"] == 5
    step(database, ref)
    assert caller.get(REDRIVES).json["data"][0]["succeeded_again"] == 5


def test_one_that_died_is_cancelled_tells_when_it_ended_and_is_redriven_by_name_only(
    caller: Caller, database: Database
):
    plant(caller, 2)
    redrive_id = begun(caller)
    ref = started(database, redrive_id)
    error = orjson.dumps(BOOM | {"code": "lost"}).decode()
    database.run(lambda session: moves.bury(session, [Ending(ref, error=error)], "worker:test"))
    assert told(caller, redrive_id)["state"] == "aborted"
    assert told(caller, redrive_id)["finished_at"] is not None
    assert post(caller, dry_run=True).json["matched"] == 2
    assert {letter["type"] for letter in post(caller, dry_run=True).json["samples"]} == {"test.echo"}
    assert post(caller, dry_run=True, filter={"type": TYPE}).json["matched"] == 1
    assert_problem(steer(caller, redrive_id, "resume"), 409, "redrive-ended")
    assert steer(caller, redrive_id, "cancel").json["state"] == "cancelled"
    assert caller.post(f"/v1/dead-letters/{redrive_id}/replay").status_code == 202
    again = started(database, redrive_id)
    assert step(database, again)[1].end == "cancelled"


def test_its_letters_go_before_it_is_pruned_and_a_bounded_number_at_once(caller: Caller, database: Database):
    plant(caller, 5)
    redrive_id = begun(caller)
    steer(caller, redrive_id, "cancel")

    def forget() -> int:
        return database.run(lambda session: forget_letters(session, State.CANCELLED, timedelta(seconds=-60), 3))

    other = begun(caller)
    mine = [forget() for _ in range(10)]
    assert sum(mine) >= 5
    assert max(mine) <= 3
    with database.reading() as session:
        kept = session.scalars(select(redrive_letters.c.redrive_id)).all()
    assert UUID(redrive_id) not in kept
    assert kept.count(UUID(other)) == 5


# The handler itself


def executor(database: Database) -> Executor:
    known = jobs.registry.load(())
    return Executor(database, known, new_id(), Outbound(), LocalDoorbell(threading.Event()), Flow(2))


def hand_over(database: Database, redrive_id: str) -> Ref:
    return database.run(lambda session: _claimed(session, redrive_id))


def test_a_worker_runs_it_to_its_end(caller: Caller, database: Database):
    refs = plant(caller, 30)
    redrive_id = begun(caller, abort_when_failure_ratio=None, rate_per_second=100)
    with ThreadPoolExecutor(1) as worker:
        running = worker.submit(executor(database).run, [hand_over(database, redrive_id)])
        deadline = time.monotonic() + 30
        while told(caller, redrive_id)["state"] == "running" and time.monotonic() < deadline:
            end(database, refs)
            time.sleep(0.05)
        running.result(10)
    assert told(caller, redrive_id)["succeeded_again"] == 30
    job = caller.get(f"{JOBS}/{redrive_id}").json
    assert job["state"] == "succeeded"
    assert job["result"] == {"state": "succeeded", "matched": 30, "replayed": 30, "discarded": 0, "skipped": 0}
    assert job["progress"] == {"percent": 100.0, "message": "30 of 30 letters"}


def test_it_gives_its_thread_back_after_a_section_and_goes_on_where_it_was(
    caller: Caller, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(handler, "SECTION_SECONDS", 0.0)
    plant(caller, 3)
    redrive_id = begun(caller, rate_per_second=1000)
    database.run(
        lambda session: session.execute(
            update(jobs_table).where(jobs_table.c.id == UUID(redrive_id)).values(lost=1)  # as of a worker that died
        )
    )
    works = executor(database)
    works.run([hand_over(database, redrive_id)])
    job = caller.get(f"{JOBS}/{redrive_id}").json
    assert (job["state"], job["attempt"], job["lost"]) == ("queued", 0, 0)
    events = caller.get(f"{JOBS}/{redrive_id}/events").json["data"]
    assert [(event["move"], event["reason"]) for event in events] == [("snooze", "The redrive goes on.")]


def test_a_paused_one_leaves_its_worker(caller: Caller, database: Database):
    plant(caller)
    redrive_id = begun(caller)
    steer(caller, redrive_id, "pause")
    executor(database).run([hand_over(database, redrive_id)])
    assert caller.get(f"{JOBS}/{redrive_id}").json["state"] == "queued"
    assert told(caller, redrive_id)["state"] == "paused"


def test_one_whose_job_died_goes_on_when_that_is_replayed(caller: Caller, database: Database):
    refs = plant(caller, 3)
    redrive_id = begun(caller, abort_when_failure_ratio=None)
    ref = started(database, redrive_id)
    error = orjson.dumps(BOOM | {"code": "lost"}).decode()
    database.run(lambda session: moves.bury(session, [Ending(ref, error=error)], "worker:test"))
    document = told(caller, redrive_id)
    assert (document["state"], document["reason"]) == (
        "aborted",
        "Its job died. Replay that dead letter, and the redrive goes on.",
    )
    assert caller.post(f"/v1/dead-letters/{redrive_id}/replay").status_code == 202
    run(database, redrive_id)
    assert told(caller, redrive_id)["state"] == "running"
    assert states(database, refs) == {State.QUEUED: 3}
