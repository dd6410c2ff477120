"""Handlers in processes of their own: the same to them as on a thread, and whatever they do to it hurts nobody else."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
from pytest_httpserver import HTTPServer
from sqlalchemy import update

from jobs.outbound import Outbound
from jobs.outcomes import Draining
from jobs.registry import load
from models import moves
from models.database import Database
from models.dialect import POSTGRESQL
from models.doorbell import LocalDoorbell
from models.ids import new_id
from models.job import Ref, jobs
from models.states import State
from tests.factories import unique
from tests.workbench import WAIT, Bench, counted, lent_database
from workers.child import LAST_WORDS, WorkerPlan, WorkerProcess
from workers.executor import Executor
from workers.flow import Flow
from workers.isolation import pool as pool_module
from workers.local_broker import LocalBroker
from workers.log_fields import add_job
from workers.transport import Envelope
from workers.watchdog import Watchdog

DEADLINE = 20.0
ABOUT_A_SECOND = 1.4
"""A look of the watchdog, half a second of patience, and the machine's own slowness."""


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from lent_database(request, POSTGRESQL)


class Isolated(Bench):
    """A worker with its watchdog, whose handlers run in processes."""

    def __init__(self, database: Database, http: Outbound | None = None) -> None:
        super().__init__(database)
        registry = load(("tests.isolated_jobs",))
        self.executor = Executor(
            database, registry, self.worker_id, http or Outbound(), LocalDoorbell(self.rung), Flow(4)
        )
        self.pool = self.executor.isolated.pool
        self.watchdog = Watchdog(
            database,
            self.worker_id,
            self.executor.in_hand,
            self.executor.durations,
            self.executor.recorder,
            lambda _session: None,
        )
        self.watchdog.start()
        self.threads: list[threading.Thread] = []

    def planted(self, do: str, value: Any = None, path: Path = Path("/dev/null"), **columns: Any) -> Ref:
        args = {"do": do, "value": value, "path": str(path)}
        return self.plant(**{"type": "isolated.do", "args": args, **columns})

    def did(self, do: str, value: Any = None, **columns: Any) -> dict[str, Any]:
        """The job's row after its attempt."""
        ref = self.planted(do, value, **columns)
        self.executor.run([ref])
        return self.row(ref)

    def begin(self, do: str, path: Path, **columns: Any) -> Ref:
        """Start a job on a thread of its own; returns once its handler has written to `path`.

        Its time limit covers the start of a process, which this machine may take long for: one is there already.
        """
        self.did("pid")
        ref = self.planted(do, path=path, **columns)
        self.threads.append(threading.Thread(target=self.executor.run, args=[[ref]]))
        self.threads[-1].start()
        _until(lambda: path.exists() and path.read_text())
        return ref

    def ended(self, ref: Ref) -> dict[str, Any]:
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "the handler never ended"
        return self.row(ref)

    def cancel(self, ref: Ref) -> None:
        self.database.run(lambda session: moves.cancel(session, [ref.id], "tester"))

    def stop(self) -> None:
        self.watchdog.stop()
        self.executor.isolated.close()
        for thread in self.threads:
            thread.join(DEADLINE)


def pids() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


_others: set[int] = set()


@pytest.fixture(autouse=True)
def _whoever_was_here_before() -> None:
    """Other tests' installations may live on in this process of the test run."""
    _others.clear()
    _others.update(pids())


def left_behind() -> set[int]:
    """The processes that this test has started, and nobody ended."""
    return pids() - _others


@pytest.fixture
def worker(database: Database) -> Iterator[Isolated]:
    made = Isolated(database)
    yield made
    made.stop()
    assert not made.pool._all
    assert not left_behind()


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A file that a handler writes to."""
    return tmp_path / "note"


def _until(condition: Callable[[], Any], within_seconds: float = DEADLINE) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)
    return answer


def gone(pid: int) -> bool:
    """Whether a process runs no more; one that its new parent has not reaped yet does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def started() -> float:
    return counted("jobmill_isolated_processes_started_total")


def crashes(code: str) -> float:
    return counted("jobmill_isolated_processes_crashed_total", code=code)


# The same to the handler


def test_a_result_comes_through(worker: Isolated):
    value = {"text": "\u00e9 \U0001f600", "numbers": [1, 2.5, None, 2**63 - 1], "long": "x" * 900_000}
    row = worker.did("echo", value)
    assert (row["state"], row["result"], row["attempt"]) == (State.SUCCEEDED, value, 3)


def test_the_context_is_that_of_the_job(worker: Isolated):
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    row = worker.did("look_around", tags={"for": "ada"}, timeout_seconds=77, max_attempts=7, **trace)
    assert row["result"] == {
        "job_id": str(row["id"]),
        "job_type": "isolated.do",
        "tenant": str(row["tenant_id"]),
        "attempt": 3,
        "lease": row["lease"],
        "max_attempts": 7,
        "tags": {"for": "ada"},
        "timeout": 77.0,
        "last_checkpoint": None,
        **trace,
        "on_main_thread": True,
        "limits": [-1, -1],
    }


def test_progress_comes_through_the_last_word_too(worker: Isolated, note: Path):
    ref = worker.begin("tell_progress", note)
    seen = _until(lambda: (row := worker.row(ref))["progress_percent"] == 99 and row)
    assert (seen["state"], seen["progress_message"]) == (State.RUNNING, "at 99")
    note.with_suffix(".go").touch()
    row = worker.ended(ref)
    assert (row["result"], row["progress_percent"], row["progress_message"]) == ("done", 100, "all")


def test_a_checkpoint_survives_the_process_that_dies_after_it(worker: Isolated):
    ref = worker.planted("save_and_fail")
    worker.executor.run([ref])
    row = worker.row(ref)
    assert (row["state"], row["error"]["code"], row["checkpoint"]) == (State.QUEUED, "crashed", {"page": 3})
    again = worker.planted("save_and_fail", checkpoint=row["checkpoint"])
    worker.executor.run([again])
    assert worker.row(again)["result"] == {"page": 3}


def test_a_checkpoint_that_is_too_large_is_the_handlers_to_handle(worker: Isolated):
    assert worker.did("too_large")["result"] == "refused"


def test_a_checkpoint_under_a_lost_lease_ends_the_attempt(worker: Isolated, monkeypatch: pytest.MonkeyPatch):
    ref = worker.planted("checkpoint", 7)
    attempt = worker.executor.isolated.attempt

    def with_its_lease_taken(*given: Any) -> Any:
        worker.database.run(
            lambda session: session.execute(
                update(jobs).where(jobs.c.id == ref.id).values(lease=ref.lease + 1, worker_id=new_id())
            )
        )
        return attempt(*given)

    monkeypatch.setattr(worker.executor.isolated, "attempt", with_its_lease_taken)
    worker.executor.run([ref])
    row = worker.row(ref)
    assert (row["state"], row["lease"], row["checkpoint"]) == (State.RUNNING, ref.lease + 1, None)


def test_log_lines_are_written_to_the_workers_log_with_the_jobs_ids(worker: Isolated, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("logging.Logger.getEffectiveLevel", lambda _logger: 20)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars, add_job]) as lines:
        row = worker.did("log", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    said = {line["event"]: line for line in lines}
    assert "too_quiet" not in said
    fetched = said["page_fetched"]
    assert (fetched["page"], fetched["huge"], fetched["log_level"]) == ("3", str(2**70), "info")
    assert (fetched["job_id"], fetched["job_type"]) == (str(row["id"]), "isolated.do")
    assert fetched["trace_id"] == "a" * 32
    assert (said["from_acme"]["job_id"], said["on paper"]["log_level"]) == ("another", "info")
    assert "no luck" in said["it_broke"]["exception"]


@pytest.mark.parametrize("networks", [("127.0.0.0/8",), ()])
def test_calls_out_are_guarded_as_the_worker_is_set_up(database: Database, httpserver: HTTPServer, networks: Any):
    from ipaddress import ip_network

    httpserver.expect_request("/").respond_with_data("hello")
    worker = Isolated(database, Outbound(tuple(map(ip_network, networks)), allow_http=True))
    try:
        row = worker.did("call_out", httpserver.url_for("/"))
    finally:
        worker.stop()
    if networks:
        assert row["result"] == "hello"
    else:
        assert row["error"]["type"].endswith("AddressRefused")


def test_the_session_says_that_it_cannot_be_had(worker: Isolated):
    row = worker.did("open_session")
    assert (row["state"], row["error"]["type"]) == (State.QUEUED, "RuntimeError")
    assert "isolation='process'" in row["error"]["message"]


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [("retry", State.QUEUED, "retry-later"), ("snooze", State.QUEUED, None), ("permanent", State.DEAD, "no-such")],
)
def test_answers_mean_the_same(worker: Isolated, answer: str, state: State, code: str | None):
    row = worker.did("answer", answer)
    assert (row["state"], row["error"] and row["error"]["code"]) == (state, code)


@pytest.mark.parametrize(("deed", "kind"), [("end", "SystemExit"), ("raise_base", "OddError")])
def test_what_is_no_exception_fails_the_attempt_and_not_the_process(worker: Isolated, deed: str, kind: str):
    before = worker.did("pid")["result"]
    row = worker.did(deed)
    assert (row["state"], row["error"]["code"]) == (State.QUEUED, "exception")
    assert row["error"]["type"].endswith(kind)
    assert row["error"]["place"] == f"tests.isolated_jobs:{deed}"
    assert worker.did("pid")["result"] == before


def test_a_result_that_is_no_json_is_refused(worker: Isolated):
    row = worker.did("no_json")
    assert (row["state"], row["error"]["code"]) == (State.DEAD, "result-not-serialisable")


def test_wrong_arguments_are_refused(worker: Isolated):
    row = worker.row(ref := worker.plant(type="isolated.do", args={"what": 1}))
    worker.executor.run([ref])
    row = worker.row(ref)
    assert (row["state"], row["error"]["code"]) == (State.DEAD, "invalid-args")


def test_what_a_handler_prints_is_not_taken_for_an_answer(worker: Isolated):
    assert [worker.did("make_noise")["result"] for _ in range(3)] == ["heard"] * 3


# Interrupts


def test_a_handler_that_listens_to_its_cancellation_cleans_up(worker: Isolated, note: Path):
    ref = worker.begin("listen", note)
    worker.cancel(ref)
    began = time.monotonic()
    assert worker.ended(ref)["state"] == State.CANCELLED
    assert time.monotonic() - began < ABOUT_A_SECOND
    assert note.read_text() == "cleaned up"


def test_one_that_does_not_listen_is_interrupted_and_still_cleans_up(worker: Isolated, note: Path):
    ref = worker.begin("spin", note)
    worker.cancel(ref)
    assert worker.ended(ref)["state"] == State.CANCELLED
    assert note.read_text() == "cleaned up"


def test_one_that_waits_inside_c_is_interrupted_there(worker: Isolated, note: Path):
    ref = worker.begin("sleep", note, timeout_seconds=1)
    row = worker.ended(ref)
    assert (row["state"], row["error"]["code"]) == (State.QUEUED, "timed-out")
    assert "time.sleep(60)" in row["error"]["trace"]
    assert note.read_text() == "cleaned up"


@pytest.mark.parametrize("deaf", ["swallow", "hold_the_lock"])
def test_one_that_will_not_hear_is_killed_and_the_job_is_cancelled(worker: Isolated, note: Path, deaf: str):
    ref = worker.begin(deaf, note)
    (process,) = worker.pool._all
    worker.cancel(ref)
    assert worker.ended(ref)["state"] == State.CANCELLED
    assert gone(process.pid)
    assert worker.did("pid")["result"] != process.pid


@pytest.mark.parametrize("deed", ["spin", "hold_the_lock"])
def test_a_time_limit_holds_within_about_a_second_while_others_work_on(worker: Isolated, note: Path, deed: str):
    def work() -> int:
        return sum(range(20_000))

    def speed(until: Callable[[], bool]) -> float:
        """How often one of the worker's other threads gets its work done in a second."""
        began, times = time.monotonic(), 0
        while not until():
            work()
            times += 1
        return times / (time.monotonic() - began)

    worker.did("pid")  # so that the process is there
    alone_until = time.monotonic() + 0.7
    alone = speed(lambda: time.monotonic() > alone_until)
    ref = worker.begin(deed, note, timeout_seconds=1)
    began = time.monotonic()
    beside = speed(lambda: not worker.threads[-1].is_alive())
    row = worker.ended(ref)
    took = time.monotonic() - began
    assert (row["state"], row["error"]["code"]) == (State.QUEUED, "timed-out")
    assert 0.9 < took < 1 + ABOUT_A_SECOND
    # Both have a core each if the machine has two; a held interpreter lock would leave nearly nothing.
    assert beside > alone / 3


def test_what_an_interrupt_breaks_off_is_no_crash(worker: Isolated, note: Path):
    ref = worker.begin("end_in_nonsense", note, timeout_seconds=1)
    assert worker.ended(ref)["error"]["code"] == "timed-out"


@pytest.mark.parametrize("deed", ["spin", "hold_the_lock"])
def test_a_worker_that_drains_gives_its_handlers_the_grace_and_then_ends_them(
    database: Database, note: Path, deed: str
):
    broker, queue = LocalBroker(), unique("queue")
    plan = WorkerPlan((queue,), (queue,), 2, "0")
    registry = load(("tests.isolated_jobs",))
    draining = WorkerProcess(database, broker, registry, Outbound(), LocalDoorbell(threading.Event()), plan)
    draining.start()
    args = {"do": deed, "value": None, "path": str(note)}
    bench = Bench(database)
    ref = bench.plant(type="isolated.do", args=args, queue=queue)
    broker.publish([Envelope(queue, (ref,))])
    _until(lambda: note.exists() and note.read_text())
    began = time.monotonic()
    draining.stop(0.5)
    assert 0.5 < time.monotonic() - began < LAST_WORDS.total_seconds()
    row = bench.row(ref)
    assert (row["state"], row["attempt"], row["error"]) == (State.QUEUED, 2, None)
    assert (note.read_text() == "cleaned up") == (deed == "spin")
    assert not left_behind()


def test_a_worker_that_stops_gives_the_attempt_back(worker: Isolated, note: Path):
    ref = worker.begin("spin", note)
    (run,) = worker.executor.in_hand.runs()
    assert run.section.interrupt(Draining)
    row = worker.ended(ref)
    assert (row["state"], row["error"], row["attempt"]) == (State.QUEUED, None, 2)
    assert note.read_text() == "cleaned up"


def test_closing_gives_back_what_still_runs(worker: Isolated, note: Path):
    ref = worker.begin("swallow", note)
    worker.executor.isolated.close()
    row = worker.ended(ref)
    assert (row["state"], row["error"], row["attempt"]) == (State.QUEUED, None, 2)


def test_programs_that_the_handler_started_end_with_it(worker: Isolated, note: Path):
    ref = worker.begin("start_a_program", note, timeout_seconds=1)
    ours, program = map(int, note.read_text().split())
    assert worker.ended(ref)["error"]["code"] == "timed-out"
    assert gone(ours)
    _until(lambda: gone(program), 2)


def test_a_signal_to_all_processes_of_a_service_does_not_end_a_handler(worker: Isolated, note: Path):
    ref = worker.begin("tell_progress", note)
    (process,) = worker.pool._all
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    note.with_suffix(".go").touch()
    assert worker.ended(ref)["result"] == "done"


# Crashes


@pytest.mark.parametrize(
    ("deed", "value", "told"),
    [
        ("crash", None, "was ended by SIGSEGV"),
        ("leave", 3, "exited with status 3"),
        ("leave", 0, "exited with status 0"),
        ("hang_up", None, "closed the connection"),
        ("talk_nonsense", None, "a frame of"),
    ],
)
def test_a_process_that_dies_fails_its_own_attempt(worker: Isolated, deed: str, value: Any, told: str):
    before = crashes("crashed")
    row = worker.did(deed, value)
    assert (row["state"], row["attempt"], row["error"]["code"]) == (State.QUEUED, 3, "crashed")
    assert told in row["error"]["message"]
    assert crashes("crashed") - before == 1
    assert row["lost"] == 0  # the worker lost nothing
    assert (row["due_at"] - row["created_at"]).total_seconds() >= WAIT - 1
    assert worker.did("echo", "alive")["result"] == "alive"


def test_a_job_whose_process_dies_each_time_is_dead_in_the_end(worker: Isolated):
    row = worker.did("crash", max_attempts=3)
    assert (row["state"], row["error"]["code"]) == (State.DEAD, "crashed")


def test_a_process_that_somebody_kills_is_not_said_to_be_out_of_memory(worker: Isolated, note: Path):
    ref = worker.begin("swallow", note)
    (process,) = worker.pool._all
    os.kill(process.pid, signal.SIGKILL)
    row = worker.ended(ref)
    assert (row["error"]["code"], row["error"]["message"]) == (
        "crashed",
        "The handler's process was ended by SIGKILL.",
    )


def test_a_process_that_dies_while_idle_costs_no_attempt(worker: Isolated):
    first = worker.did("pid")["result"]
    os.kill(first, signal.SIGKILL)
    row = worker.did("pid")
    assert (row["state"], row["attempt"]) == (State.SUCCEEDED, 3)
    assert row["result"] != first


def test_memory_beyond_the_limit_is_refused(worker: Isolated):
    row = worker.did("hoard", 300, type="isolated.small")
    assert (row["state"], row["error"]["code"]) == (State.QUEUED, "out-of-memory")
    assert worker.did("hoard", 150, type="isolated.small")["result"] == 150 * 1024 * 1024
    assert worker.did("hoard", 300)["state"] == State.SUCCEEDED  # of a type without a limit, in the same process


def test_a_process_that_does_not_give_its_memory_back_is_not_kept(worker: Isolated):
    first = worker.did("keep_much", 20, type="isolated.small")["result"]
    assert worker.did("keep_much", 90, type="isolated.small")["result"] == first
    assert worker.did("pid")["result"] != first


def test_computing_beyond_the_limit_ends_the_attempt(worker: Isolated, note: Path):
    began = time.monotonic()
    row = worker.did("spin", type="isolated.brief")
    assert (row["state"], row["error"]["code"]) == (State.QUEUED, "cpu-limit")
    assert 1 <= time.monotonic() - began < DEADLINE
    # The time of earlier jobs in the same process does not count.
    limits = [worker.did("look_around", type="isolated.brief")["result"]["limits"][1] for _ in range(2)]
    assert all(1 <= limit < 10 for limit in limits)


def test_a_module_that_cannot_be_imported_there_fails_the_attempt(worker: Isolated):
    worker.pool.modules = ("tests.no_such_module",)
    row = worker.did("pid")
    assert (row["state"], row["error"]["type"]) == (State.QUEUED, "ModuleNotFoundError")


def test_a_machine_that_bears_no_more_processes_costs_no_attempt(worker: Isolated, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(pool_module, "HandlerProcess", refuse)
    row = worker.did("pid")
    assert (row["state"], row["attempt"], row["error"]) == (State.QUEUED, 2, None)


# Processes come and go


def test_processes_are_reused(worker: Isolated):
    before = started()
    rows = [worker.did("pid") for _ in range(50)]
    assert {row["state"] for row in rows} == {State.SUCCEEDED}
    assert len({row["result"] for row in rows}) == 1
    assert started() - before == 1


def test_as_many_as_work_at_once_and_no_more(worker: Isolated, tmp_path: Path):
    before = started()
    refs = [worker.begin("tell_progress", tmp_path / f"note{number}") for number in range(3)]
    for number in range(3):
        (tmp_path / f"note{number}.go").touch()
    assert {worker.ended(ref)["result"] for ref in refs} == {"done"}
    assert started() - before == 3
    worker.did("pid")
    assert started() - before == 3


def test_those_that_are_idle_for_long_are_ended(worker: Isolated, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool_module, "LOOK_EVERY_SECONDS", 0.05)
    pid = worker.did("pid")["result"]
    time_of_one_look = 0.3
    threading.Event().wait(time_of_one_look)
    assert not gone(pid)
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.1)
    _until(lambda: not worker.pool._all)
    assert gone(pid)
    _until(lambda: worker.pool._tidier is None)
    assert worker.did("pid")["result"] != pid


def test_nothing_is_left_open_when_the_pool_closes(database: Database, note: Path):
    def open_now() -> tuple[int, int]:
        return psutil.Process().num_fds(), threading.active_count()

    Isolated(database).stop()  # what the first use of anything opens for good
    before = open_now()
    worker = Isolated(database)
    ref = worker.begin("swallow", note)
    for deed in ("pid", "crash", "talk_nonsense", "pid"):
        worker.did(deed)
    worker.stop()
    worker.ended(ref)
    database.engine.dispose()
    assert not left_behind()
    assert open_now() <= before


PARENT = """
import sys, time
from datetime import timedelta
import structlog
from jobs.context import Context
from jobs.outbound import Outbound
from jobs.registry import load
from models.ids import new_id
from models.job import Ref
from workers.isolation.conversation import Hearing
from workers.isolation.handlers import IsolatedHandlers
from workers.running import Run

known = load(("tests.isolated_jobs",))
told = (new_id(), "isolated.do", new_id(), 1, 1, 1, {}, timedelta(60), None)
context = Context(*told, structlog.get_logger(), Outbound(), None)
run = Run(Ref(context.job_id, 1), context, time.monotonic() + 60, section=Hearing())
IsolatedHandlers(known, Outbound()).attempt(known.get("isolated.do"), {"do": sys.argv[1], "path": sys.argv[2]}, run)
"""


@pytest.mark.parametrize("deed", ["listen", "hold_the_lock", "start_a_program"])
def test_a_worker_that_is_killed_takes_its_processes_with_it(note: Path, deed: str):
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, deed, str(note)], cwd=root)
    below: list[psutil.Process] = []
    try:
        _until(lambda: note.exists() and note.read_text())
        below = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        _until(lambda: all(gone(process.pid) for process in below), 2)
    finally:
        parent.kill()
        parent.wait()
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert len(below) == (2 if deed == "start_a_program" else 1)
