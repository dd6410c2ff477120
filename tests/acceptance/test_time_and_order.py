"""When jobs run: not before their time and not long after it, not for ever, the important ones first."""

from datetime import UTC, datetime, timedelta

import pytest

from models.worker import LONG_AFTER
from tests.acceptance.installation import Installation, Json
from tests.acceptance.ledger import Ledger

AT_ONCE = timedelta(seconds=1)


def moment(job: Json, name: str) -> datetime:
    return datetime.fromisoformat(job[name])


def started_late_by(job: Json) -> timedelta:
    return moment(job, "started_at") - moment(job, "due_at")


def has_run_for(job: Json) -> timedelta:
    return datetime.now(UTC) - moment(job, "started_at") if job["started_at"] else timedelta(0)


def test_a_delayed_job_starts_within_a_second_of_its_time_and_not_before(installation: Installation):
    due_at = datetime.now(UTC) + timedelta(seconds=3)
    waiting = [installation.submit("demo.echo", {"value": n}, delay_seconds=1 + n / 4) for n in range(5)]
    waiting.append(installation.submit("demo.echo", {"value": "due_at"}, due_at=due_at.isoformat()))
    assert moment(waiting[-1], "due_at") == due_at
    for number, job in enumerate(waiting[:-1]):
        wait = moment(job, "due_at") - moment(job, "created_at")
        assert wait.total_seconds() == pytest.approx(1 + number / 4, abs=0.001)
    late = [started_late_by(installation.succeeded(job)) for job in waiting]
    assert all(timedelta(0) <= by < AT_ONCE for by in late), late


def test_a_job_that_is_due_starts_at_once(installation: Installation):
    late = [started_late_by(installation.succeeded(installation.submit("demo.echo", {"value": n}))) for n in range(10)]
    assert all(timedelta(0) <= by < AT_ONCE for by in late), late


def test_a_job_that_takes_longer_than_it_may_is_stopped_and_says_so(installation: Installation):
    job = installation.submit("demo.sleep", {"seconds": 600}, timeout_seconds=1, max_attempts=1)
    end = installation.ended(job)
    assert (end["state"], end["error"]["code"], end["attempt"]) == ("dead", "timed-out", 1)
    ran = moment(end, "finished_at") - moment(end, "started_at")
    assert timedelta(seconds=1) <= ran < timedelta(seconds=4)


def test_a_time_limit_holds_for_each_attempt(installation: Installation):
    job = installation.submit("demo.sleep", {"seconds": 600}, timeout_seconds=1, max_attempts=2)
    assert installation.ended(job)["state"] == "dead"
    history = [(event["move"], event["error"]["code"]) for event in installation.events(job)]
    assert history == [("retry", "timed-out"), ("bury", "timed-out")]


def test_of_a_backlog_the_higher_priority_goes_first(breakable: Installation, ledger: Ledger):
    blocker = breakable.submit("ledger.work", ledger.gated_args)
    # Its thread is not taken for one that is free in a moment, for which a message of short jobs would be made ready.
    breakable.eventually(lambda: has_run_for(breakable.job(blocker["id"])) > 2 * LONG_AFTER, 20)
    asked = [0, -100, 5, 0, 100, -1, 5, 7, -3, 99, 0, 1]
    waiting = [breakable.submit("ledger.work", ledger.args, priority=priority) for priority in asked]
    # The broker may hold about a second of work: what it has been handed is on its way, and is not overtaken.
    on_their_way = {job["id"] for job in waiting if breakable.job(job["id"])["state"] == "dispatched"}
    assert len(on_their_way) < len(asked) / 2
    ledger.open_gate()
    for job in waiting:
        breakable.succeeded(job)
    order = [entry.job_id for entry in ledger.starts() if entry.job_id not in {blocker["id"], *on_their_way}]
    by_priority = sorted(waiting, key=lambda job: -job["priority"])  # stable: the older first among equals
    assert order == [job["id"] for job in by_priority if job["id"] not in on_their_way]
