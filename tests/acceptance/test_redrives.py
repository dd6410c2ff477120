"""The worst day: twenty thousand dead letters of three kinds, given back at a pace that new jobs do not feel."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobs.pacing import TRIAL
from models.database import connect_postgresql
from models.states import State
from tests.acceptance.installation import Full, Installation
from tests.acceptance.installer import Installer
from tests.factories import columns_in, insert_jobs, tenant_id_of

RATE = 500
BEFORE_PAUSE, AFTER_KILL = 6.0, 3.0
BOOM = {"type": "Boom", "message": "the database was away", "code": "exception", "place": "acme.orders:save"}
BANG = BOOM | {"type": "Bang", "place": "acme.mails:send"}
BUST = BOOM | {"type": "Bust", "place": "acme.maps:draw"}
KINDS = (
    (9_000, "demo.echo", {"value": 1}, BOOM),
    (6_000, "demo.echo", {"value": 2}, BANG),
    (5_000, "demo.fail", {}, BUST),
)


@pytest.fixture(scope="module")
def full(request: pytest.FixtureRequest) -> Iterator[Installation]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield Installer(request, stack)(Full.mode)


@pytest.fixture(scope="module", autouse=True)
def _outage(full: Installation) -> None:
    """What it left behind; the failing ones of a single attempt, so that each answers at once."""
    database = connect_postgresql(full.settings["DATABASE_URL"], "jobmill-tests", 2)
    with database.transaction() as session:
        tenant_id = tenant_id_of(session)
        for how_many, job_type, args, error in KINDS:
            told: dict[str, Any] = {"type": job_type, "args": args, "error": error, "max_attempts": 1}
            insert_jobs(session, [columns_in(State.DEAD, tenant_id, **told) for _ in range(how_many)])
    database.close()


def post(full: Installation, path: str, **body: Any) -> Any:
    answer = full.client.post(f"/v1/redrives{path}", json=body or None)
    assert answer.is_success, answer.text
    return answer.json()


def told(full: Installation, redrive_id: str) -> Any:
    return full.client.get(f"/v1/redrives/{redrive_id}").raise_for_status().json()


def replays(full: Installation, redrive_id: str) -> list[float]:
    """When each letter was replayed, as seconds; from the history."""
    history = f"move = 'redrive' AND reason = 'redrive {redrive_id}'"
    found = full.sql(f"SELECT extract(epoch FROM at) FROM job_events WHERE {history} ORDER BY at")  # noqa: S608
    return [float(at) for (at,) in found]


def pace(moments: list[float]) -> float:
    """Letters a second; of the first step nobody knows what time it stands for."""
    later = [at for at in moments if at > moments[0]]
    return len(later) / (moments[-1] - moments[0])


@contextmanager
def fresh_jobs(full: Installation) -> Iterator[None]:
    """Ten new jobs a second meanwhile."""
    stop = threading.Event()

    def submit() -> None:
        while not stop.wait(0.1):
            full.submit("demo.echo", {"value": "fresh"}, tags={"kind": "fresh"})

    thread = threading.Thread(target=submit)
    thread.start()
    yield
    stop.set()
    thread.join()


def start_latencies(full: Installation) -> list[float]:
    found = full.sql(
        "SELECT extract(epoch FROM started_at - created_at) FROM jobs "
        "WHERE tags->>'kind' = 'fresh' AND started_at IS NOT NULL"
    )
    return sorted(float(seconds) for (seconds,) in found)


def test_a_dry_run_counts_each_group_exactly(full: Installation):
    preview = post(full, "", filter={}, dry_run=True)
    assert preview["matched"] == sum(how_many for how_many, *_ in KINDS)
    assert [(group["error_type"], group["count"]) for group in preview["groups"]] == [
        (error["type"], how_many) for how_many, _, _, error in KINDS
    ]


@pytest.mark.timed
def test_a_group_goes_back_at_its_pace_unfelt_by_new_jobs_and_each_letter_once_though_its_worker_is_killed(
    full: Installation,
):
    redrive_id = post(full, "", filter={"error": "Boom"}, rate_per_second=RATE)["id"]
    with fresh_jobs(full):
        time.sleep(BEFORE_PAUSE)
    latencies = start_latencies(full)
    assert post(full, f"/{redrive_id}/pause")["state"] == "paused"
    before = full.eventually(lambda: _still(full, redrive_id))
    paced = replays(full, redrive_id)
    sys.stdout.write(f"{pace(paced):.0f} letters/s of {RATE}, new jobs started within {latencies[-1]:.3f} s\n")
    assert abs(pace(paced) - RATE) <= RATE / 10
    assert latencies[-1] < 1
    full.kill_children()
    assert post(full, f"/{redrive_id}/resume")["state"] == "running"
    full.eventually(lambda: told(full, redrive_id)["waiting"] < before["waiting"], 30)
    time.sleep(AFTER_KILL)
    full.kill_children()
    end = full.eventually(lambda: (now := told(full, redrive_id))["finished_at"] and now, 90, 0.2)
    assert (end["state"], end["matched"], end["replayed"], end["skipped"]) == ("succeeded", 9_000, 9_000, 0)
    assert (end["succeeded_again"], end["died_again"], end["unanswered"]) == (9_000, 0, 0)
    assert len(replays(full, redrive_id)) == 9_000
    twice = full.sql("SELECT job_id FROM job_events WHERE move = 'redrive' GROUP BY job_id HAVING count(*) > 1")
    assert twice == []


def _still(full: Installation, redrive_id: str) -> Any:
    """The redrive, once it has stood still for half a second."""
    before = told(full, redrive_id)["waiting"]
    time.sleep(0.5)
    after = told(full, redrive_id)
    return after if after["waiting"] == before else None


def test_a_handler_that_still_fails_ends_it_after_twenty_letters(full: Installation):
    redrive_id = post(full, "", filter={"error": "Bust"}, rate_per_second=RATE)["id"]
    end = full.eventually(lambda: (now := told(full, redrive_id))["finished_at"] and now, 30, 0.1)
    assert end["state"] == "aborted"
    assert TRIAL / 2 <= end["died_again"] <= end["replayed"] <= TRIAL
    assert len(replays(full, redrive_id)) == end["replayed"]
    assert end["waiting"] == 5_000 - end["replayed"]
