"""`Prefer: wait` and streams: clients that wait are told at once, and hold nothing while they do."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from sqlalchemy import delete

from api import following
from models import moves, queries, reports
from models.database import Database
from models.ids import new_id
from models.job import Ref, jobs
from models.moves import Ending
from models.reports import Report
from models.states import State
from tests.doors import JOBS, Caller, Doors, assert_problem
from tests.factories import job_in

TOLD_WITHIN = 0.3
Eventually = Callable[..., Any]


@pytest.fixture
def doors(database: Database) -> Iterator[Doors]:
    made = Doors(database, api_threads=2, api_waiting=20)
    yield made
    made.services.watcher.stop()


@pytest.fixture
def caller(doors: Doors) -> Caller:
    return doors.caller()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as made:
        yield made


def plant(doors: Doors, caller: Caller, state: State = State.RUNNING, **columns: Any) -> Ref:
    return doors.database.run(lambda session: job_in(session, state, tenant_id=caller.tenant_id, **columns))


def succeed(doors: Doors, *refs: Ref) -> float:
    doors.database.run(lambda session: moves.succeed(session, [Ending(ref, result='"done"') for ref in refs]))
    return time.monotonic()


def progress(doors: Doors, ref: Ref, percent: float) -> None:
    doors.database.run(lambda session: reports.write_progress(session, [Report(ref, percent, f"at {percent}")]))


def wait(caller: Caller, ref: Ref, prefer: str = "wait=30", query: str = "") -> Any:
    answer = caller.get(f"{JOBS}/{ref.id}{query}", Prefer=prefer)
    answer.at = time.monotonic()  # type: ignore[attr-defined]
    return answer


def watched(doors: Doors, how_many: int) -> Callable[[], bool]:
    return lambda: len(doors.services.watcher._watches) == how_many


def events_of(text: str) -> list[dict[str, Any]]:
    told = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if "data" in lines:
            told.append({**lines, "data": orjson.loads(lines["data"])})
    return told


# Waiting


def test_a_wait_ends_when_the_job_is_final(doors: Doors, caller: Caller, pool: Any, eventually: Eventually) -> None:
    ref = plant(doors, caller)
    waiting = pool.submit(wait, caller, ref)
    eventually(watched(doors, 1))

    ended_at = succeed(doors, ref)

    answer = waiting.result(10)
    assert answer.at - ended_at < TOLD_WITHIN
    assert (answer.status_code, answer.json["state"], answer.json["result"]) == (200, "succeeded", "done")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert "Retry-After" not in answer.headers
    assert answer.headers["ETag"] == caller.get(f"{JOBS}/{ref.id}").headers["ETag"]
    assert watched(doors, 0)()


def test_progress_ends_no_wait_and_is_answered_at_its_end(doors: Doors, caller: Caller, pool: Any) -> None:
    ref = plant(doors, caller)
    waiting = pool.submit(wait, caller, ref, "wait=1")
    time.sleep(0.2)
    progress(doors, ref, 40)

    answer = waiting.result(10)

    assert (answer.json["state"], answer.json["progress"]["percent"]) == ("running", 40)
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert "Retry-After" in answer.headers


def test_a_final_job_is_answered_at_once(doors: Doors, caller: Caller) -> None:
    answer = wait(caller, plant(doors, caller, State.SUCCEEDED))
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_a_wait_leaves_of_the_answer_what_was_asked_for(
    doors: Doors, caller: Caller, pool: Any, eventually: Any
) -> None:
    ref = plant(doors, caller)
    waiting = pool.submit(wait, caller, ref, "wait=30", "?fields=state,result")
    eventually(watched(doors, 1))
    succeed(doors, ref)
    assert waiting.result(10).json == {"state": "succeeded", "result": "done"}


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30),
        ("respond-async, wait=10", 10),
        ("WAIT = 10; x", 10),
        ('wait="5"', 5),
        ("wait=3600", 60),
        ("wait=99999999999999999999", 0),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=5", 0),
        ("return=minimal", 0),
    ],
)
def test_what_a_preference_means(doors: Doors, prefer: str, seconds: int) -> None:
    with doors.app.test_request_context(headers={"Prefer": prefer}):
        assert following.wait_seconds() == seconds


def test_many_waiters_leave_the_places_and_connections_to_others(
    doors: Doors, caller: Caller, pool: Any, eventually: Eventually
) -> None:
    refs = [plant(doors, caller) for _ in range(20)]
    waiting = [pool.submit(wait, caller, ref) for ref in refs]
    eventually(watched(doors, 20))

    assert doors.database.pools.single.pool.checkedout() <= 1  # type: ignore[attr-defined]
    assert caller.submit()["state"] == "queued"
    beyond = wait(caller, refs[0])
    assert (beyond.status_code, beyond.json["state"]) == (200, "running")
    assert "Preference-Applied" not in beyond.headers
    ended_at = succeed(doors, *refs)

    answers = [one.result(10) for one in waiting]
    assert {answer.json["state"] for answer in answers} == {"succeeded"}
    assert max(answer.at for answer in answers) - ended_at < 2
    assert watched(doors, 0)()


def test_another_tenants_job_cannot_be_waited_for(doors: Doors, caller: Caller) -> None:
    ref = plant(doors, caller)
    assert_problem(wait(doors.caller(), ref), 404, "not-found")
    assert_problem(doors.caller().get(f"{JOBS}/{ref.id}/stream"), 404, "not-found")


def test_a_job_that_is_pruned_meanwhile_ends_the_wait(
    doors: Doors, caller: Caller, pool: Any, eventually: Eventually
) -> None:
    ref = plant(doors, caller)
    waiting = pool.submit(wait, caller, ref)
    eventually(watched(doors, 1))
    doors.database.run(lambda session: session.execute(delete(jobs).where(jobs.c.id == ref.id)))
    assert waiting.result(10).json["state"] == "running"


def test_a_server_that_stops_lets_everybody_go(doors: Doors, caller: Caller, pool: Any, eventually: Eventually) -> None:
    waiting = pool.submit(wait, caller, plant(doors, caller))
    streaming = pool.submit(caller.get, f"{JOBS}/{plant(doors, caller).id}/stream")
    eventually(watched(doors, 2))

    doors.services.watcher.stop()

    assert waiting.result(2).json["state"] == "running"
    assert [event["data"]["state"] for event in events_of(streaming.result(2).text)] == ["running"]
    assert wait(caller, plant(doors, caller)).json["state"] == "running"


def test_the_watcher_bears_an_error(doors: Doors, caller: Caller, pool: Any, eventually: Any, monkeypatch: Any) -> None:
    ref, failed = plant(doors, caller), threading.Event()
    look = doors.services.watcher._tell

    def fail_first(watches: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("as the test wants it")
        look(watches)

    monkeypatch.setattr(doors.services.watcher, "_tell", fail_first)
    waiting = pool.submit(wait, caller, ref)
    assert failed.wait(5)
    succeed(doors, ref)
    assert waiting.result(10).json["state"] == "succeeded"


# Streams


def followed(caller: Caller, ref: Ref, query: str = "", **headers: str) -> Any:
    return caller.get(f"{JOBS}/{ref.id}/stream{query}", **headers)


def test_a_stream_tells_states_and_progress_until_the_end(
    doors: Doors, caller: Caller, pool: Any, eventually: Eventually
) -> None:
    ref = plant(doors, caller, State.DISPATCHED)
    stream: Future[Any] = pool.submit(followed, caller, ref)
    eventually(watched(doors, 1))
    (watch,) = doors.services.watcher._watches

    def seen(state: str, percent: float | None) -> Callable[[], bool]:
        return lambda: (watch.job.state, watch.job.progress_percent) == (state, percent)  # type: ignore[union-attr]

    doors.database.run(lambda session: moves.start(session, [ref], new_id()))
    eventually(seen("running", None))
    progress(doors, ref, 40)
    eventually(seen("running", 40))
    succeed(doors, ref)

    answer = stream.result(10)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    told = events_of(answer.text)
    states = [event["data"]["state"] for event in told]
    assert states[0] == "dispatched"
    assert states[-1] == "succeeded"
    assert [event["data"]["result"] for event in told][-1] == "done"
    assert {event["event"] for event in told} == {"job"}
    assert len({event["id"] for event in told}) == len(told)
    assert told[-1]["data"] == caller.get(f"{JOBS}/{ref.id}").json
    assert watched(doors, 0)()


def test_a_stream_of_some_members_tells_of_their_changes_only(
    doors: Doors, caller: Caller, pool: Any, eventually: Eventually
) -> None:
    ref = plant(doors, caller, State.RUNNING)
    stream: Future[Any] = pool.submit(followed, caller, ref, "?fields=id,state")
    eventually(watched(doors, 1))
    (watch,) = doors.services.watcher._watches
    progress(doors, ref, 40)
    eventually(lambda: watch.job and watch.job.progress_percent == 40)
    succeed(doors, ref)

    told = [event["data"] for event in events_of(stream.result(10).text)]
    assert told == [{"id": str(ref.id), "state": state} for state in ("running", "succeeded")]
    assert_problem(followed(caller, ref, "?fields=nothing"), 400, "invalid-request")


def test_a_reader_that_comes_again_is_not_told_what_it_knows(doors: Doors, caller: Caller) -> None:
    ref = plant(doors, caller, State.SUCCEEDED, result="done")
    (event,) = events_of(followed(caller, ref).text)

    again = followed(caller, ref, Last_Event_ID=event["id"])
    other = followed(caller, ref, Last_Event_ID="of-before")

    assert (again.status_code, again.data) == (204, b"")
    assert [told["id"] for told in events_of(other.text)] == [event["id"]]


def test_a_silent_stream_says_that_it_is_alive(
    doors: Doors, caller: Caller, pool: Any, monkeypatch: Any, eventually: Eventually
) -> None:
    monkeypatch.setattr(following, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(following, "LONGEST_STREAM_SECONDS", 1.0)
    text = followed(caller, plant(doors, caller)).text
    assert text.startswith("retry: ")
    assert text.count(": alive\n\n") >= 2
    assert len(events_of(text)) == 1


def test_streams_beyond_the_bound_are_refused(doors: Doors, caller: Caller) -> None:
    watcher = doors.services.watcher
    ref = plant(doors, caller)
    job = doors.database.run(lambda session: queries.find_job(session, ref.id, None))
    with ExitStack() as held:
        for _ in range(20):
            held.enter_context(watcher.watch(job))
        refused = followed(caller, ref)
        assert_problem(refused, 503, "too-many-streams")
        assert refused.headers["Retry-After"] == "5"


def test_a_stream_nobody_reads_is_given_back(doors: Doors, caller: Caller) -> None:
    ref = plant(doors, caller)
    answer = doors.app.test_client().get(
        f"{JOBS}/{ref.id}/stream", headers={"Authorization": f"Bearer {caller.token}"}, buffered=False
    )
    assert watched(doors, 1)()
    answer.close()
    assert watched(doors, 0)()
    head = doors.app.test_client().head(f"{JOBS}/{ref.id}/stream", headers={"Authorization": f"Bearer {caller.token}"})
    head.close()
    assert (head.status_code, watched(doors, 0)()) == (200, True)


def test_a_reader_that_takes_nothing_is_waited_for_so_long_only(doors: Doors, caller: Caller) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answer = doors.app.test_client().get(
            f"{JOBS}/{plant(doors, caller).id}/stream",
            headers={"Authorization": f"Bearer {caller.token}"},
            environ_overrides={"gunicorn.socket": ours},
            buffered=False,
        )
        assert ours.gettimeout() == following.STALL_SECONDS
        answer.close()
        assert ours.gettimeout() is None
