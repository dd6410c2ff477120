"""A worker's parent and its processes, as `jobmill worker` starts them: killed, frozen, stopped, and deaf."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psutil
import pytest
from sqlalchemy import select

from models import moves
from models.database import Database
from models.job import Ref
from models.states import State
from models.worker import workers
from tests.acceptance.process import environment, free_port
from tests.factories import history_of, job_in, row_of
from tests.faults import figures
from tests.proxy import Proxy
from workers.duties.rescue import OTHERS_RAN
from workers.publisher import Publisher
from workers.transport import Envelope

QUEUED_WITHIN = 2.0
DEADLINE = 30.0
A_MINUTE = timedelta(minutes=1)
HERE = Path(__file__).parent
SHORTENED = """
from datetime import timedelta
from workers import verdict
verdict.SILENT_AFTER = timedelta(seconds=5)
verdict.YIELD_WITHIN = timedelta(seconds=1)
"""
RUN = """
import sys
from cli.main import main
main(['worker', *sys.argv[1:]])
"""


class Mill:
    """One `jobmill worker` at a time, and jobs sent to it; whoever is still there at the end is ended."""

    def __init__(self, database: Database, publisher: Publisher, folder: Path, eventually: Callable[..., Any]) -> None:
        self.database = database
        self.publisher = publisher
        self.folder = folder
        self.eventually = eventually
        self.settings: dict[str, str] = {}
        self.parent: psutil.Popen
        self.seen: set[psutil.Process] = set()

    def start(self, *flags: str, program: str = RUN, **settings: str) -> None:
        """Start it, without waiting for anything."""
        with (self.folder / "log").open("ab") as log:
            self.parent = psutil.Popen(
                [sys.executable, "-c", program, *flags],
                env=environment(**{**self.settings, **settings}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.seen.add(self.parent)

    def run(self, processes: int = 1, threads: int = 2, **settings: Any) -> None:
        """Start it, and wait until its processes consume."""
        self.start(f"--processes={processes}", f"--threads={threads}", **settings)
        self.until_live(processes)

    def until_live(self, how_many: int) -> list[psutil.Process]:
        self.eventually(lambda: len(self.rows("live")) == how_many, DEADLINE)
        return self.children()

    def children(self) -> list[psutil.Process]:
        found = self.parent.children()
        self.seen.update(found)
        return found

    def rows(self, state: str | None = None) -> list[Any]:
        """The rows of workers that did not say that they stopped; `live` ones consume."""
        with self.database.reading() as session:
            found = session.execute(select(workers).where(workers.c.stopped_at.is_(None))).mappings().all()
        return [row for row in found if row["consuming_at"] is not None] if state == "live" else list(found)

    def send(self, job_type: str = "dying.work", **columns: Any) -> Ref:
        """Hand a job to the worker, as the dispatcher would."""
        (ref,) = self.send_together(job_type, **columns)
        return ref

    def send_together(self, *job_types: str, **columns: Any) -> list[Ref]:
        """Hand it jobs in one message."""
        columns["args"] = {"folder": str(self.folder)}
        refs = [
            self.database.run(lambda session, each=each: job_in(session, State.DISPATCHED, type=each, **columns))
            for each in job_types
        ]
        assert self.publisher.publish([Envelope("default", tuple(refs))]) == [True]
        return refs

    def begun(self, job_type: str = "dying.work", **columns: Any) -> tuple[Ref, psutil.Process]:
        """A job whose handler runs, and the process it runs in."""
        ref = self.send(job_type, **columns)
        pid = self.eventually(lambda: self.told("start", ref), DEADLINE)[-1]
        return ref, next(child for child in self.children() if child.pid == pid)

    def told(self, event: str, ref: Ref) -> list[int]:
        """In which processes that happened to a job."""
        ledger = self.folder / "ledger"
        lines = [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []
        return [int(pid) for what, job_id, pid in lines if (what, UUID(job_id)) == (event, ref.id)]

    def row(self, ref: Ref) -> dict[str, Any]:
        with self.database.reading() as session:
            return row_of(session, ref)

    def history(self, ref: Ref) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            return history_of(session, ref)

    def until(self, ref: Ref, state: State, within_seconds: float = DEADLINE) -> dict[str, Any]:
        self.eventually(lambda: self.row(ref)["state"] == state, within_seconds)
        return self.row(ref)

    def again(self, ref: Ref) -> Ref:
        """Dispatch a job once more."""
        (claimed,) = self.database.run(lambda session: moves.claim(session, "default", 0, 1, A_MINUTE))
        assert claimed.id == ref.id
        assert self.publisher.publish([Envelope("default", (claimed.ref,))]) == [True]
        return claimed.ref

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    @property
    def words(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.open_gate()
        if self.seen:
            with suppress(psutil.NoSuchProcess):
                self.children()
        for process in self.seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.seen, timeout=10)


@pytest.fixture
def mill(
    database_url: str,
    postgresql_database: Database,
    rabbitmq_url: str,
    queue_prefix: str,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> Iterator[Mill]:
    publisher = Publisher((rabbitmq_url,), queue_prefix, "jobmill tests")
    publisher.start()
    made = Mill(postgresql_database, publisher, tmp_path, eventually)
    made.settings = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "JOBMILL_QUEUE_PREFIX": queue_prefix,
        "JOBMILL_QUEUES": "default",
        "JOBMILL_JOBS": "dying_jobs",
        "PYTHONPATH": str(HERE),
    }
    eventually(lambda: publisher.connected)
    yield made
    made.end()
    publisher.stop()


# Death, and its cause


@pytest.mark.fault("child-dies", "SIGKILL to the process that runs the job")
def test_a_killed_child_s_job_is_queued_again_within_two_seconds_and_tells_why(mill: Mill):
    mill.run(processes=2)
    ref, child = mill.begun()
    killed_at = time.monotonic()
    child.kill()
    row = mill.until(ref, State.QUEUED)
    elapsed = time.monotonic() - killed_at
    assert elapsed < QUEUED_WITHIN
    figures.keep("child-dies", "queued again after", elapsed, "s")
    assert (row["lost"], row["attempt"]) == (1, 2)
    (event,) = mill.history(ref)
    assert (event["move"], event["reason"]) == ("rescue", "its process was killed by SIGKILL")
    assert "killed by SIGKILL" in event["error"]["message"]
    assert row["error"] == event["error"]
    assert event["actor"].endswith(f":{mill.parent.pid}")
    # Another takes its place, at once, and does it.
    assert child not in mill.until_live(2)
    again = mill.again(ref)
    mill.open_gate()
    assert mill.until(again, State.SUCCEEDED)["error"] is None
    assert len(mill.told("start", ref)) == 2
    assert len(mill.told("end", ref)) == 1


@pytest.mark.fault("handler-exits", "os._exit in a handler, with a status of its own and with 0")
@pytest.mark.fault("handler-segfaults", "a handler reads where no memory is")
@pytest.mark.parametrize(
    ("job_type", "cause"),
    [
        ("dying.exit", "its process exited with status 3"),
        ("dying.exit_well", "its process exited with status 0"),
        ("dying.segfault", "its process was killed by SIGSEGV"),
    ],
)
def test_history_tells_how_a_process_died(mill: Mill, job_type: str, cause: str):
    mill.run()
    neighbour, _ = mill.begun()
    ref = mill.send(job_type)
    for lost in (ref, neighbour):
        assert mill.until(lost, State.QUEUED)["lost"] == 1
        assert [event["reason"] for event in mill.history(lost)] == [cause]
    mill.until_live(1)
    assert mill.words.count('"child_died"') == 1


def test_of_a_message_s_jobs_a_death_is_the_loss_of_that_one_which_ran(mill: Mill):
    mill.run()
    before, culprit, *after = mill.send_together("dying.work_at_once", "dying.exit", *["dying.work_at_once"] * 3)
    row = mill.until(culprit, State.QUEUED)
    assert (row["lost"], [event["move"] for event in mill.history(culprit)]) == (1, ["rescue"])
    for ref in after:
        row = mill.until(ref, State.QUEUED)
        assert (row["lost"], row["attempt"], row["error"]) == (0, 2, None)
        assert [(event["move"], event["reason"]) for event in mill.history(ref)] == [("interrupt", OTHERS_RAN)]
        assert mill.told("start", ref) == []
    # It had ended; whether that was recorded first is a matter of milliseconds.
    row = mill.row(before)
    assert (row["lost"], row["state"]) in {(0, State.QUEUED), (0, State.SUCCEEDED)}
    assert mill.told("end", before) != []


@contextmanager
def away(proxy: Proxy) -> Iterator[None]:
    """Nobody gets through for as long as the block lasts."""
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.01):
            proxy.reset()

    cutting = threading.Thread(target=cut)
    cutting.start()
    yield
    over.set()
    cutting.join()


def test_a_child_dies_while_the_database_is_away_and_its_job_is_rescued_when_it_is_back(mill: Mill, database_url: str):
    with closing(Proxy(database_url)) as proxy:
        mill.run(DATABASE_URL=proxy.url)
        ref, child = mill.begun()
        with away(proxy):
            child.kill()
            mill.eventually(lambda: "parent_without_database" in mill.words, DEADLINE)
            mill.eventually(lambda: len(mill.children()) == 1 and child not in mill.children(), DEADLINE)
            assert mill.row(ref)["state"] == State.RUNNING
        mill.until(ref, State.QUEUED)
        assert [event["reason"] for event in mill.history(ref)] == ["its process was killed by SIGKILL"]
        # Its successor was born while there was no database, and has waited for it.
        mill.until_live(1)


# Silence, and handlers that do not yield


@pytest.mark.fault("child-dies", "SIGSTOP for longer than a child may be silent")
@pytest.mark.timed
def test_a_frozen_child_is_killed_and_its_job_queued_again(mill: Mill):
    mill.run(program=SHORTENED + RUN)
    ref, child = mill.begun()
    child.suspend()
    assert mill.until(ref, State.QUEUED)["lost"] == 1
    assert "said nothing" in mill.history(ref)[0]["reason"]
    assert not child.is_running()
    mill.until_live(1)


@pytest.mark.timed
def test_a_child_frozen_for_less_than_that_goes_on(mill: Mill):
    mill.run(program=SHORTENED + RUN)
    ref, child = mill.begun()
    child.suspend()
    time.sleep(1.5)  # much less than what is allowed
    child.resume()
    mill.open_gate()
    mill.until(ref, State.SUCCEEDED)
    assert child in mill.children()


@pytest.mark.timed
def test_a_parent_that_was_frozen_itself_blames_no_child_for_it(mill: Mill):
    mill.run(program=SHORTENED + RUN)
    ref, child = mill.begun()
    for process in (mill.parent, child):
        process.suspend()
    time.sleep(10)  # more than a look may be late, and than a child may be silent
    mill.parent.resume()
    time.sleep(1)  # the parent looks around before the child can say a word
    child.resume()
    mill.open_gate()
    mill.until(ref, State.SUCCEEDED)
    assert child in mill.children()


@pytest.mark.fault("handler-never-returns", "it catches every exception and goes on")
def test_a_handler_that_swallows_its_time_limit_is_ended_and_has_used_its_attempt(mill: Mill):
    mill.run(program=SHORTENED + RUN)
    neighbour, child = mill.begun()
    ref, _ = mill.begun("dying.deaf", timeout_seconds=1)
    row = mill.until(ref, State.QUEUED)
    assert not child.is_running()
    # The third attempt of five began, and counts: it failed by its own doing, and was not lost.
    assert (row["attempt"], row["lost"], row["error"]["code"]) == (3, 0, "timed-out")
    assert [event["move"] for event in mill.history(ref)] == ["retry"]
    assert mill.until(neighbour, State.QUEUED)["lost"] == 1
    assert "did not yield" in mill.history(neighbour)[0]["reason"]
    mill.until_live(1)
    last = mill.begun("dying.deaf", timeout_seconds=1, max_attempts=3)[0]
    assert mill.until(last, State.DEAD)["error"]["type"] == "TimedOut"
    assert [event["move"] for event in mill.history(last)] == ["bury"]


@pytest.mark.fault("handler-holds-gil", "a call into C that keeps the lock for eight seconds")
def test_a_handler_that_holds_the_lock_of_the_interpreter_does_not_look_dead(mill: Mill):
    mill.run()
    ref, child = mill.begun("dying.hog")
    silent_since = mill.row(ref)["started_at"] + timedelta(seconds=2)
    # The child cannot say a word, and yet a heartbeat is written.
    mill.eventually(lambda: mill.rows()[0]["heartbeat_at"] > silent_since, DEADLINE)
    assert mill.told("end", ref) == []
    mill.until(ref, State.SUCCEEDED)
    assert child in mill.children()


# Without a parent


@pytest.mark.fault("parent-dies", "SIGKILL to the parent of two, one of them busy")
def test_children_of_a_killed_parent_finish_what_they_have_and_are_gone(mill: Mill):
    mill.run(processes=2)
    ref, child = mill.begun()
    others = set(mill.children()) - {child}
    mill.parent.kill()
    psutil.wait_procs(others, timeout=DEADLINE)
    assert not any(other.is_running() for other in others)
    before = mill.rows()[0]["heartbeat_at"]
    # Nobody beats for the last of them any more but itself.
    mill.eventually(lambda: mill.rows()[0]["heartbeat_at"] > before, DEADLINE)
    late = mill.send()
    assert mill.row(ref)["state"] == State.RUNNING
    mill.open_gate()
    mill.until(ref, State.SUCCEEDED)
    child.wait(DEADLINE)
    assert mill.told("start", ref) == mill.told("end", ref) == [child.pid]
    assert mill.told("start", late) == []
    assert mill.rows() == []


# Stopping


@pytest.mark.fault("sigterm-enough-grace", "SIGTERM to a worker whose two processes are busy")
def test_sigterm_drains_every_child(mill: Mill):
    mill.run(processes=2, threads=1)
    running = [mill.begun() for _ in range(2)]
    assert len({child.pid for _, child in running}) == 2
    mill.parent.send_signal(signal.SIGTERM)
    mill.eventually(lambda: mill.words.count('"worker_draining"') == 2, DEADLINE)
    late = mill.send()
    mill.open_gate()
    assert mill.parent.wait(DEADLINE) == 0
    assert [mill.row(ref)["state"] for ref, _ in running] == [State.SUCCEEDED] * 2
    assert mill.told("start", late) == []
    assert not any(child.is_running() for _, child in running)
    assert mill.rows() == []


def test_a_whole_group_that_is_told_to_stop_drains_all_the_same(mill: Mill):
    mill.run()
    ref, child = mill.begun()
    # As a supervisor does that signals every process it knows of.
    for process in (child, mill.parent, child):
        process.send_signal(signal.SIGTERM)
    mill.eventually(lambda: '"worker_draining"' in mill.words, DEADLINE)
    mill.open_gate()
    assert mill.parent.wait(DEADLINE) == 0
    assert mill.row(ref)["state"] == State.SUCCEEDED


@pytest.mark.fault("sigterm-twice", "SIGTERM again while a handler still runs")
def test_a_second_sigterm_stops_at_once_and_gives_the_jobs_back(mill: Mill):
    mill.run()
    ref, child = mill.begun()
    mill.parent.send_signal(signal.SIGTERM)
    mill.eventually(lambda: '"worker_draining"' in mill.words, DEADLINE)
    began = time.monotonic()
    mill.parent.send_signal(signal.SIGTERM)
    assert mill.parent.wait(DEADLINE) == 128 + signal.SIGTERM
    assert time.monotonic() - began < QUEUED_WITHIN
    assert not child.is_running()
    assert mill.row(ref)["state"] == State.QUEUED
    assert mill.row(ref)["lost"] == 0
    assert [event["reason"] for event in mill.history(ref)] == ["its worker was told to stop at once"]
    assert mill.rows() == []


def test_a_child_that_is_told_to_stop_by_itself_finishes_and_is_replaced(mill: Mill):
    mill.run()
    ref, child = mill.begun()
    child.send_signal(signal.SIGTERM)
    mill.eventually(lambda: '"worker_draining"' in mill.words, DEADLINE)
    mill.open_gate()
    mill.until(ref, State.SUCCEEDED)
    mill.eventually(lambda: not child.is_running(), DEADLINE)
    assert mill.until_live(1) != [child]
    assert "child_died" not in mill.words


# From before the parent listens to signals until after its child consumes.
@pytest.mark.fault("sigterm-at-boot", "SIGTERM at six moments of the first two seconds")
@pytest.mark.parametrize("after", [0.1, 0.5, 0.8, 1.1, 1.4, 1.8])
def test_a_sigterm_while_it_starts_leaves_nothing_behind(mill: Mill, after: float):
    mill.start("--processes=2")
    time.sleep(after)
    family = [mill.parent, *mill.children()]
    mill.parent.send_signal(signal.SIGTERM)
    assert mill.parent.wait(DEADLINE) in {0, -signal.SIGTERM}
    psutil.wait_procs(family, timeout=2)
    assert not any(process.is_running() for process in family)
    assert mill.rows() == []


# Starting again and again


def test_a_child_that_cannot_start_any_more_is_tried_ever_more_rarely_until_it_can(mill: Mill, tmp_path: Path):
    module = tmp_path / "passing_jobs.py"
    module.write_text("")
    mill.run(JOBMILL_JOBS="dying_jobs,passing_jobs")
    module.write_text("raise RuntimeError('broken')\n")
    mill.children()[0].kill()
    mill.eventually(lambda: mill.words.count('"child_died"') >= 4, DEADLINE)
    pauses = [float(found) for found in re.findall(r'"again_in_seconds": ([\d.]+)', mill.words)]
    assert pauses[:4] == [0.0, 1.0, 2.0, 4.0]
    assert mill.words.count("its process exited with status 2") == 3
    module.write_text("")
    mill.until_live(1)


def test_a_module_of_jobs_that_ends_what_imports_it_is_a_wrong_setting(mill: Mill, tmp_path: Path):
    (tmp_path / "a_script.py").write_text("import sys\nsys.exit()\n")
    mill.start(JOBMILL_JOBS="a_script")
    assert mill.parent.wait(DEADLINE) == 2
    assert "JOBMILL_JOBS=a_script cannot be loaded: SystemExit" in mill.words


# What they count


def test_one_page_tells_of_all_processes_also_of_those_that_died(mill: Mill):
    port = free_port()
    mill.open_gate()
    mill.run(processes=2, threads=1, JOBMILL_METRICS_PORT=str(port))

    def counted(line: str) -> float:
        page = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        found = re.search(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    succeeded = 'jobmill_moves_total{move="succeed"}'
    for ref in [mill.send() for _ in range(6)]:
        mill.until(ref, State.SUCCEEDED)
    mill.eventually(lambda: counted(succeeded) == 6)
    for child in mill.children():
        child.kill()
    mill.eventually(lambda: counted('jobmill_child_deaths_total{cause="SIGKILL"}') == 2)
    assert counted(succeeded) == 6
    mill.until_live(2)
    mill.until(mill.send(), State.SUCCEEDED)
    mill.eventually(lambda: counted(succeeded) == 7)
    files = {Path(name).parent for name in _open_files(mill.parent, "jobmill-metrics-")}
    assert len(files) == 1
    mill.parent.send_signal(signal.SIGTERM)
    assert mill.parent.wait(DEADLINE) == 0
    assert not next(iter(files)).exists()


def _open_files(process: psutil.Process, name: str) -> list[str]:
    return [mapped.path for mapped in process.memory_maps() if name in mapped.path]


def test_the_parent_loads_neither_the_broker_nor_the_jobs_nor_their_way_out():
    program = "import sys; import cli.processes; from workers import parent, registrar; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=True)
    loaded = set(done.stdout.split())
    assert "workers.parent" in loaded
    assert not loaded & {
        "dramatiq",
        "pika",
        "flask",
        "jobs.builtin.demo",
        "workers.broker",
        "workers.executor",
        "httpx2",
    }
