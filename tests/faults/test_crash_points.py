"""Kill -9 at every crash point, in both modes where it exists there: the job is done all the same, and counts once."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx2
import pika
import pytest

from models.crashpoints import POINTS
from tests.acceptance.installation import Embedded, Full, Installation, Json
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import Install
from tests.faults.crashing import await_death, kill_family, let_time_pass, revive, start_armed
from tests.faults.evidence import rows
from tests.faults.figures import keep
from tests.faults.invariants import check
from tests.faults.load import submit_patiently
from tests.faults.receiving import receiving

SEVERAL = 6
DAY_SECONDS = 24 * 3600


def quick(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.quick", ledger.args)]


def stepwise(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.stepwise", ledger.args)]


def several(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.quick", ledger.args) for _ in range(SEVERAL)]


def failing_once(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.fail", ledger.args)]


def failing_for_good(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.fail", ledger.args | {"times": 9}, max_attempts=1)]


def paying(installation: Installation, ledger: Ledger) -> list[Json]:
    return [submit_patiently(installation, "fault.pay", ledger.args | {"times": 0})]


def told(installation: Installation, ledger: Ledger) -> list[Json]:
    """A job of whose end a receiver is told; it answers, and notes whom it has heard."""
    with receiving() as (url, heard):
        job = submit_patiently(
            installation, "fault.quick", ledger.args, webhook={"url": url, "events": ["job.succeeded"]}
        )
        # Once before the crash and once after it, as the same event.
        installation.eventually(lambda: len(heard) > 1, 60)
    assert len(set(heard)) == 1
    return [job]


def dead_letters(installation: Installation, ledger: Ledger) -> list[Json]:
    """Jobs that failed for good, and would succeed by now."""
    jobs = [submit_patiently(installation, "fault.fail", ledger.args, max_attempts=1) for _ in range(SEVERAL)]
    for job in jobs:
        installation.in_state(job, "dead")
    return jobs


def redriving(installation: Installation, ledger: Ledger) -> list[Json]:
    """Redrives of all of them: one, and another if the answer of the first was lost."""

    def ask() -> bool:
        try:
            answer = installation.client.post("/v1/redrives", json={"filter": {"type": "fault.fail"}})
        except httpx2.TransportError:
            return False
        return answer.status_code == httpx2.codes.ACCEPTED

    installation.eventually(ask, 40)
    made = installation.client.get("/v1/redrives").json()["data"]
    installation.accepted += (jobs := [installation.job(redrive["id"]) for redrive in made])
    return jobs


def nothing(installation: Installation, ledger: Ledger) -> list[Json]:
    return []


def running_on_a_dead_machine(installation: Installation, ledger: Ledger) -> list[Json]:
    """A job whose worker is gone without a word, for long enough to be noticed."""
    job = installation.submit("fault.gated", ledger.gated_args)
    installation.eventually(lambda: ledger.starts(job["id"]))
    let_time_pass(installation, kill_family(installation.worker))
    ledger.open_gate()
    return [job]


def with_its_message_lost(installation: Installation, ledger: Ledger) -> list[Json]:
    """A job that was handed to a broker which forgot it, long enough ago for that to be certain."""
    kill_family(installation.worker)  # so that nobody takes the message first
    job = installation.submit("fault.quick", ledger.args)
    installation.in_state(job, "dispatched")
    with pika.BlockingConnection(pika.URLParameters(installation.settings["RABBITMQ_URL"])) as connection:
        queue = f"{installation.settings['JOBMILL_QUEUE_PREFIX']}.default"
        purged = installation.eventually(lambda: connection.channel().queue_purge(queue).method.message_count)
    assert purged == 1
    let_time_pass(installation, [])
    return [job]


def waiting_for_a_dispatcher(installation: Installation, ledger: Ledger) -> list[Json]:
    """Several jobs that one claim takes together, and nobody who takes their messages before they are counted."""
    kill_family(installation.processes["dispatcher"])
    kill_family(installation.worker)
    return several(installation, ledger)


def all_of_the_batch_is_published(installation: Installation) -> None:
    """Of the batch of one claim, which nobody has noted as confirmed, each job has a message of its own."""
    claims = installation.sql("SELECT DISTINCT dispatched_at FROM jobs WHERE state = 'dispatched'")
    assert len(claims) == 1
    queue = f"{installation.settings['JOBMILL_QUEUE_PREFIX']}.default"
    with pika.BlockingConnection(pika.URLParameters(installation.settings["RABBITMQ_URL"])) as connection:
        channel = connection.channel()
        installation.eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == SEVERAL)


@dataclass(frozen=True)
class Scenario:
    """How a point is reached: by which process of the full mode, and with what to do.

    `before` happens while everything is well, `provoke` while the process that shall die is about to start. `struck`
    looks, before anything is mended, whether the death came amidst what it was to come amidst. `repeats` is how often
    the death may make a handler begin again: not at all where none has begun.
    """

    process: str
    provoke: Callable[[Installation, Ledger], list[Json]] = nothing
    before: Callable[[Installation, Ledger], list[Json]] = nothing
    struck: Callable[[Installation], None] = lambda _installation: None
    passage: int = 1
    modes: tuple[str, ...] = (Embedded.mode, Full.mode)
    ends: str = "succeeded"
    repeats: int = 0


SCENARIOS: Mapping[str, Scenario] = {
    "submit.before_commit": Scenario("api", quick),
    "submit.after_commit": Scenario("api", quick),
    "dispatch.after_claim": Scenario("dispatcher", quick),
    "dispatch.mid_batch": Scenario(
        "dispatcher",
        before=waiting_for_a_dispatcher,
        struck=all_of_the_batch_is_published,
        modes=(Full.mode,),  # only a real broker confirms
    ),
    "dispatch.after_confirms": Scenario("dispatcher", quick),
    "worker.before_start": Scenario("worker", quick),
    "worker.after_start": Scenario("worker", quick),
    "worker.mid_handler": Scenario("worker", stepwise, repeats=1),
    "worker.after_handler": Scenario("worker", quick, repeats=1),
    "worker.in_commit": Scenario("worker", paying, repeats=1),
    "worker.after_commit": Scenario("worker", quick),
    "retry.before_commit": Scenario("worker", failing_once, repeats=1),
    "bury.before_commit": Scenario("worker", failing_for_good, ends="dead", repeats=1),
    "webhook.after_call": Scenario("worker", told),
    "redrive.before_commit": Scenario("worker", redriving, before=dead_letters),
    "rescue.before_commit": Scenario("dispatcher", before=running_on_a_dead_machine, repeats=1),
    # Embedded the broker dies with whoever could forget.
    "reconcile.after_release": Scenario("dispatcher", before=with_its_message_lost, modes=(Full.mode,)),
}
APART = {"prune.before_commit", "prune.after_archive", "collect.after_commit"}
"""Points that have a test of their own: below, and in test_undeliverable.py."""
FAULTS = {
    "retry.before_commit": "killed-worker-at-retry",
    "bury.before_commit": "killed-worker-at-bury",
    "redrive.before_commit": "killed-mid-redrive",
}
"""Faults that are not named after their points, of those whose process is started again by its parent."""
LIKE_EMBEDDED = {
    "submit.before_commit",
    "worker.before_start",
    "worker.mid_handler",
    "worker.after_handler",
    "retry.before_commit",
    "bury.before_commit",
    "redrive.before_commit",
}
"""Points where the full mode does what the embedded one does, but for the statements, which tests/model covers."""
CASES = [
    pytest.param(mode, point, marks=[pytest.mark.long] if mode == Full.mode and point in LIKE_EMBEDDED else [])
    for mode in (Embedded.mode, Full.mode)
    for point, one in SCENARIOS.items()
    if mode in one.modes
]


def test_no_point_is_forgotten():
    assert SCENARIOS.keys() | APART == POINTS.keys()


@pytest.mark.fault("killed-submit-before-commit", "crash point submit.before_commit, both modes")
@pytest.mark.fault("killed-submit-after-commit", "crash point submit.after_commit, both modes")
@pytest.mark.fault("killed-dispatch-after-claim", "crash point dispatch.after_claim, both modes")
@pytest.mark.fault("killed-dispatch-mid-batch", "crash point dispatch.mid_batch")
@pytest.mark.fault("killed-dispatch-after-confirms", "crash point dispatch.after_confirms, both modes")
@pytest.mark.fault("killed-worker-before-start", "crash point worker.before_start, both modes")
@pytest.mark.fault("killed-worker-after-start", "crash point worker.after_start, both modes")
@pytest.mark.fault("killed-worker-mid-handler", "crash point worker.mid_handler, both modes")
@pytest.mark.fault("killed-worker-after-handler", "crash point worker.after_handler, both modes")
@pytest.mark.fault("killed-worker-in-commit", "crash point worker.in_commit, both modes")
@pytest.mark.fault("killed-worker-before-acknowledgement", "crash point worker.after_commit, both modes")
@pytest.mark.fault("killed-worker-at-retry", "crash point retry.before_commit, both modes")
@pytest.mark.fault("killed-worker-at-bury", "crash point bury.before_commit, both modes")
@pytest.mark.fault("killed-webhook-unrecorded", "crash point webhook.after_call, both modes: told again, as one event")
@pytest.mark.fault("killed-mid-redrive", "crash point redrive.before_commit, both modes")
@pytest.mark.fault("killed-mid-rescue", "crash point rescue.before_commit, both modes")
@pytest.mark.parametrize(("mode", "point"), CASES)
def test_a_job_survives_kill_9_at(mode: str, point: str, install: Install, ledger: Ledger):
    installation, scenario = install(mode), SCENARIOS[point]
    jobs = scenario.before(installation, ledger)
    process = installation.worker if mode == Embedded.mode else installation.processes[scenario.process]
    let_time_pass(installation, kill_family(process))  # quicker than a drain, and no job is in it
    with ThreadPoolExecutor(1) as client:
        submitted = client.submit(scenario.provoke, installation, ledger)
        reached = start_armed(process, f"{point}:{scenario.passage}=kill")
        dead = await_death(installation, reached, point)
        died_at = time.time()  # by the clock that the database has too
        scenario.struck(installation)
        helped_itself = process.alive  # it was a child, whose parent needs no help
        if not helped_itself:
            let_time_pass(installation, [dead])
        revive(installation)
        jobs += submitted.result()

    check(installation, ledger, jobs, faults=scenario.repeats)
    ends = [installation.job(job["id"]) for job in jobs]
    assert {end["state"] for end in ends} == {scenario.ends}
    after = max(datetime.fromisoformat(end["finished_at"]).timestamp() for end in ends) - died_at
    if helped_itself and after > 0:
        keep(FAULTS.get(point, f"killed-{point.replace('.', '-').replace('_', '-')}"), "done after", after, "s")


@pytest.mark.parametrize("mode", [Embedded.mode, pytest.param(Full.mode, marks=pytest.mark.long)])
def test_what_is_to_be_pruned_survives_kill_9_before_its_commit_and_goes_afterwards(
    mode: str, install: Install, ledger: Ledger
):
    installation = install(mode)
    jobs = [installation.submit("fault.quick", ledger.args) for _ in range(3)]
    for job in jobs:
        installation.succeeded(job)
    _age(installation, jobs)
    process = installation.worker if mode == Embedded.mode else installation.processes["dispatcher"]
    let_time_pass(installation, kill_family(process))
    process.settings["JOBMILL_RETAIN_SUCCEEDED_DAYS"] = "1"
    dead = await_death(installation, start_armed(process, "prune.before_commit"), "prune.before_commit")
    let_time_pass(installation, [dead])

    left = rows(installation)
    assert {job["id"] for job in jobs} <= {row.id for row in left}
    revive(installation)
    installation.eventually(lambda: {job["id"] for job in jobs}.isdisjoint({row.id for row in rows(installation)}))
    del process.settings["JOBMILL_RETAIN_SUCCEEDED_DAYS"]
    check(installation, ledger, [])
    assert len(rows(installation)) == len(left) - len(jobs)


@pytest.mark.parametrize("mode", [Embedded.mode, pytest.param(Full.mode, marks=pytest.mark.long)])
def test_a_letter_survives_kill_9_between_the_archive_and_its_end_and_stands_there_twice(
    mode: str, install: Install, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
):
    installation, archive = install(mode), tmp_path_factory.mktemp("archive")
    jobs = [*failing_for_good(installation, ledger), *failing_for_good(installation, ledger)]
    for job in jobs:
        installation.in_state(job, "dead")
    _age(installation, jobs)
    process = installation.worker if mode == Embedded.mode else installation.processes["dispatcher"]
    let_time_pass(installation, kill_family(process))
    process.settings |= {"JOBMILL_RETAIN_DEAD_DAYS": "1", "JOBMILL_ARCHIVE_DIR": str(archive)}
    dead = await_death(installation, start_armed(process, "prune.after_archive"), "prune.after_archive")
    let_time_pass(installation, [dead])

    ids = {job["id"] for job in jobs}
    assert ids <= {row.id for row in rows(installation)}
    revive(installation)
    installation.eventually(lambda: ids.isdisjoint({row.id for row in rows(installation)}))
    del process.settings["JOBMILL_RETAIN_DEAD_DAYS"], process.settings["JOBMILL_ARCHIVE_DIR"]
    check(installation, ledger, [])
    written = [json.loads(line)["job"]["id"] for file in archive.iterdir() for line in file.read_text().splitlines()]
    assert sorted(written) == sorted([*ids, *ids])


def _age(installation: Installation, jobs: list[Json]) -> None:
    """Make jobs older than their retention."""
    ids = ", ".join(f"'{job['id'] if installation.mode == Full.mode else UUID(job['id']).hex}'" for job in jobs)
    older = {
        Embedded.mode: f"finished_at - {2 * DAY_SECONDS * 1_000_000}",
        Full.mode: "finished_at - interval '2 days'",
    }
    installation.sql(f"UPDATE jobs SET finished_at = {older[installation.mode]} WHERE id IN ({ids})")  # noqa: S608
