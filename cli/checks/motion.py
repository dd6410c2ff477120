"""Checks of who does the work, of what waits for it, and of what lies there longer than it should."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cli import compose
from cli.checks.findings import Finding, Patient, fine, warning, wrong
from models import backlog, dead_groups, inspection, lease, worker
from models.dead_groups import DeadFigure
from models.queue import find_queues

PRUNED_WITHIN = timedelta(hours=1)
"""A job is pruned within a minute of its time, a crowd of them in batches."""


def dispatcher(patient: Patient) -> Iterator[Finding]:
    """Somebody dispatches."""
    with patient.database.reading() as session:
        leads = lease.is_held(session)
    if leads:
        yield fine("A dispatcher leads.")
    else:
        yield wrong(f"No dispatcher leads, and no job begins. Start one: {_started(patient, 'dispatcher')}")


def workers(patient: Patient) -> Iterator[Finding]:
    """Somebody works, and reaches the broker."""
    with patient.database.reading() as session:
        known = worker.list_workers(session)
    live = [one for one in known if one.state == "live"]
    for one in known:
        if one.state in {"connecting", "silent"}:
            does = "does not reach RabbitMQ" if one.state == "connecting" else "has not been heard of"
            yield warning(f"The worker {one.pid} on {one.host} {does}; see its log.")
    if live:
        yield fine(f"{len(live)} worker processes take jobs, with {sum(one.threads for one in live)} threads.")
    else:
        yield wrong(f"No worker takes jobs. Start one: {_started(patient, 'worker')}")


def queues(patient: Patient) -> Iterator[Finding]:
    """Whoever has due work has a worker, and is not far behind."""
    with patient.database.reading() as session:
        served = worker.capacities(session)
        waiting = inspection.waiting_queues(session)
        paused = {queue: told.paused_by for queue, told in find_queues(session, waiting).items() if told.paused_at}
        waits = {queue: backlog.oldest_due(session, queue) for queue in waiting if queue not in paused}
    found = [*_paused(paused), *_unserved(patient, waits, set(served)), *_behind(patient, waits, set(served))]
    yield from found or [fine(f"Nothing that is due waits for a worker ({len(waits)} queues with waiting jobs).")]


def _paused(queues: dict[str, str | None]) -> Iterator[Finding]:
    for queue, by in queues.items():
        yield warning(f"Queue {queue} was paused by {by}, and jobs wait in it. Go on: jobmill queues resume {queue}")


def _unserved(patient: Patient, waits: dict[str, timedelta], served: set[str]) -> Iterator[Finding]:
    for queue, waited in waits.items():
        if waited and queue not in served:
            yield wrong(
                f"Queue {queue} has had due jobs for {_long(waited)}, and no live worker serves it. "
                f"{_served(patient, queue)}"
            )


def _served(patient: Patient, queue: str) -> str:
    """What to do so that somebody serves the queue."""
    if patient.settings.embedded:
        return "Name it in JOBMILL_QUEUES, and restart jobmill up."
    return f"Start one: jobmill worker --queues {queue}"


def _behind(patient: Patient, waits: dict[str, timedelta], served: set[str]) -> Iterator[Finding]:
    most = timedelta(seconds=patient.thresholds.waiting_seconds)
    for queue, waited in waits.items():
        if queue in served and waited >= most:
            yield warning(f"Queue {queue} is behind: its oldest due job has waited for {_long(waited)}. Add workers.")


def dead_letters(patient: Patient) -> Iterator[Finding]:
    """There are not many, and none is old."""
    with patient.database.reading() as session:
        figures = dead_groups.dead_figures(session)
        now = inspection.clock(session)
    many = [figure for figure in figures if _is_worth_a_word(patient, figure, now)]
    for figure in many:
        yield warning(
            f"{figure.count} dead letters of {figure.type} in queue {figure.queue}, the oldest for "
            f"{_long(now - figure.oldest_at)}. Look: jobmill dead groups"
        )
    if not many:
        yield fine(f"{sum(figure.count for figure in figures)} dead letters.")


def _is_worth_a_word(patient: Patient, figure: DeadFigure, now: datetime) -> bool:
    limits = patient.thresholds
    return figure.count >= limits.dead_letters or now - figure.oldest_at >= timedelta(days=limits.dead_days)


def pruning(patient: Patient) -> Iterator[Finding]:
    """What was kept long enough goes."""
    late = []
    with patient.database.reading() as session:
        for state, kept in compose.retention(patient.settings).items():
            age = inspection.longest_final(session, state)
            if age is not None and age >= kept + PRUNED_WITHIN:
                late.append(f"The oldest {state} job is {_long(age)} old, and kept for {_long(kept)} only")
    for told in late:
        yield wrong(f"{told}. See the dispatcher's log for `archive_failed` or `duty_failed`.")
    if not late:
        yield fine("Nothing is kept for longer than its retention.")


def _started(patient: Patient, role: str) -> str:
    return "jobmill up" if patient.settings.embedded else f"jobmill {role}"


def _long(time: timedelta) -> str:
    """A duration for people."""
    seconds = time.total_seconds()
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
