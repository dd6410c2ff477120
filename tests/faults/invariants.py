"""What must hold after any fault, I1 to I12: each a function from the evidence to complaints, which name the jobs.

`check` waits until all is quiet, at most for as long as recovery may take, looks everywhere, and fails with every
complaint at once.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.acceptance.installation import FINAL, Installation
from tests.acceptance.ledger import Entry, Ledger
from tests.faults.evidence import Event, Evidence, Row, Usage, gather, settle
from tests.faults.health import HANGING, HEALTH_LAG_SECONDS, HealthWatch, Outage, look
from tests.faults.supervisor import Supervisor

RECOVERY_SECONDS = 30
THAWED_SECONDS = 5.0
"""How soon after it went on a process that had stood still begins the handlers of what it had started before."""
CALM_SECONDS = 5
"""How long counters, connections and health may lag behind the last job's end."""
SLACK = Usage(descriptors=40, threads=12, database=19, amqp=0)
"""Pools and thread pools fill as they are needed, up to their limits: a worker of four threads keeps up to 21
connections to the database, its parent's among them, of which a few are made at its start. Broker connections never
do."""

GIVEN_BACK = {"snooze", "interrupt", "rescue"}
REPEATS = GIVEN_BACK | {"retry", "redrive"}
ENDS = FINAL - {"succeeded"}  # a success is on the straight path, and leaves no entry in the history
COUNTED = REPEATS - {"redrive"} | {"bury", "stop"}

Complaints = Iterator[str]


def no_loss(known: Evidence) -> Complaints:
    """I1: each 202 has a row, and it ends final."""
    for job_id in known.submitted:
        row = known.rows.get(job_id)
        if row is None:
            yield f"job {job_id} was accepted and has no row"
        elif row.state not in FINAL:
            yield f"job {job_id} is still {row.state}"


def one_effect(known: Evidence) -> Complaints:
    """I2: one final move per job, none beside a success; one lease wrote the result, whose handler had ended."""
    for row in known.rows_of_test():
        yield from _one_end(row, known.history(row.id))
        yield from _one_result(row, known)
        if row.type == "fault.pay" and len(known.paid(row.id)) != (row.state == "succeeded"):
            yield f"job {row.id} is {row.state} and its handler's own write is there {len(known.paid(row.id))} times"
        for lease, times in Counter(entry.lease for entry in known.ledger("start", row.id)).items():
            if times > 1:
                yield f"job {row.id} was started {times} times under lease {lease}"


def _one_end(row: Row, history: list[Event]) -> Complaints:
    ends: list[str] = []
    for event in history:
        if event.move == "redrive":
            ends = []
        elif event.state in ENDS:
            ends.append(event.state)
    expected = [[row.state], ["dead", "discarded"]] if row.state in ENDS else [[]]
    if ends not in expected:
        yield f"job {row.id} is {row.state} and its history ends it with {ends}"


def _one_result(row: Row, known: Evidence) -> Complaints:
    if row.state != "succeeded" or not row.type.startswith("fault."):
        return
    lease = (row.result or {}).get("lease")
    if lease != row.lease:
        yield f"job {row.id} succeeded under lease {row.lease} with a result of lease {lease}"
    if [entry.lease for entry in known.ledger("end", row.id)].count(row.lease) != 1:
        yield f"job {row.id} succeeded under lease {row.lease}, under which no handler ended, or more than one"
    for paid in known.paid(row.id):
        if paid != row.lease:
            yield f"job {row.id} succeeded under lease {row.lease} beside a write of lease {paid}"


def one_webhook(known: Evidence) -> Complaints:
    """I2, its last third: one webhook job per endpoint and event; a dead job that is redriven may die once more.

    Whom a job itself names is told of each of its ends that was asked for, and so is each endpoint that hears of it.
    """
    events = Counter((one.job_id, one.event, one.to, one.event_id) for one in known.told)
    ends = Counter((job_id, event, to) for job_id, event, to, _ in events)
    for (job_id, event, to), times in ends.items():
        row = known.rows.get(job_id or "")
        if row is not None and times > (ended := _ended(row, event, known)):
            yield f"job {row.id} had {event} {ended} times, and {to} is told so by {times} events"
    for row in known.rows_of_test():
        for to, event in _to_be_told(row, known):
            times, ended = ends[row.id, event, to], _ended(row, event, known)
            if times < ended:
                yield f"job {row.id} had {event} {ended} times, and {to} is told so by {times} events"
    for (job_id, event, to, event_id), times in events.items():
        if times > 1:
            yield f"job {job_id}: {event} {event_id} has {times} deliveries to {to}"


def _to_be_told(row: Row, known: Evidence) -> Iterator[tuple[str, str]]:
    """Whom a job's ends must be told, and which: a URL or an endpoint's id, and an event."""
    if row.webhook:
        yield from ((row.webhook["url"], event) for event in row.webhook["events"])
    for endpoint in known.endpoints:
        if endpoint.hears_of(row):
            yield from ((endpoint.id, event) for event in endpoint.events)


def _ended(row: Row, event: str, known: Evidence) -> int:
    """How often a job has ended as an event says."""
    state = event.removeprefix("job.")
    return sum(one.state == state for one in known.history(row.id)) + (state == row.state == "succeeded")


def lease_order(known: Evidence) -> Complaints:
    """I3: leases only increase, in the history and among the starts; nothing is newer than the row."""
    for row in known.rows_of_test():
        history = [event.lease for event in known.history(row.id)]
        starts = [entry.lease for entry in known.ledger("start", row.id) if not _of_the_thawed(entry, known)]
        if history != sorted(history):
            yield f"job {row.id}: the leases of its history are {history}"
        if any(later <= earlier for earlier, later in pairwise(starts)):
            yield f"job {row.id}: the leases of its starts are {starts}"
        if max([*history, *starts, 0]) > row.lease:
            yield f"job {row.id} is at lease {row.lease}, below {max([*history, *starts])} which was written or run"


def _of_the_thawed(entry: Entry, known: Evidence) -> bool:
    """Whether its process had just stood still: what it had started before may be another's by then."""
    return any(pid == entry.pid and 0 <= entry.at - at < THAWED_SECONDS for pid, at in known.thawed)


def bounded_repeats(known: Evidence) -> Complaints:
    """I4: no more starts than one and the repeats that the history explains, by no more faults than there were.

    Where it is known which processes were struck, a job is taken from no other: each loss is that of a struck one.
    """
    for row in known.rows_of_test():
        starts = len(known.ledger("start", row.id))
        moves = Counter(event.move for event in known.history(row.id))
        if starts > 1 + sum(moves[move] for move in REPEATS):
            yield f"job {row.id} was started {starts} times, which its history does not explain: {dict(moves)}"
        asked_for = moves["retry"] + moves["snooze"] + moves["redrive"]
        if known.faults is not None and starts - 1 - asked_for > known.faults:
            yield f"job {row.id} was started {starts} times, {asked_for} of them asked for, by {known.faults} faults"
        yield from _groundless_losses(row, known)


def _groundless_losses(row: Row, known: Evidence) -> Complaints:
    if known.struck is None:
        return
    rescued = {event.lease for event in known.history(row.id) if event.move == "rescue"}
    for entry in known.ledger("start", row.id):
        struck_since = known.struck.get(entry.pid, 0.0) >= entry.at or _of_the_thawed(entry, known)
        if entry.lease in rescued and not struck_since:
            yield f"job {row.id} was taken from process {entry.pid} under lease {entry.lease}, which nobody had struck"


def nothing_foreign(known: Evidence) -> Complaints:
    """I5: nothing in the tables or the ledger that no client submitted."""
    deliveries = {one.id for one in known.told if one.job_id in known.rows}
    for row in known.rows.values():
        if row.id not in known.accepted | deliveries and row.key not in known.asked:
            yield f"job {row.id} ({row.type}) was submitted by nobody"
    for entry in known.entries:
        if entry.job_id not in known.rows and entry.job_id not in known.accepted:
            yield f"the ledger tells of job {entry.job_id}, which nobody submitted"
    for event in known.events:
        if event.job_id not in known.rows:
            yield f"the history tells of job {event.job_id}, which has no row"


def honest_attempts(known: Evidence) -> Complaints:
    """I6: attempts used are starts, less what was given back and says so; each loss is a rescue in the history.

    A start whose worker died before its handler's first line is in the history as given back, and not in the ledger:
    so only that is taken away which was given back under the lease of a start.
    """
    for row in known.rows_of_test():
        history = known.history(row.id)
        starts = [entry.lease for entry in known.ledger("start", row.id)]
        given_back = sum(event.move in GIVEN_BACK and event.lease in starts for event in history)
        used = row.attempt + _used_before_redrives(history)
        if row.type.startswith("fault.") and used != len(starts) - given_back:
            yield f"job {row.id} used {used} attempts in {len(starts)} starts, of which {given_back} were given back"
        since = max((number for number, event in enumerate(history) if event.move == "redrive"), default=-1) + 1
        rescues = sum(event.move == "rescue" for event in history[since:])
        if row.lost != rescues:
            yield f"job {row.id} was lost {row.lost} times and rescued {rescues} times"


def _used_before_redrives(history: list[Event]) -> int:
    """A redrive counts attempts from nought again; what was used before stands in the entry that made it dead."""
    return sum(
        before.attempt - (before.move == "rescue") for before, event in pairwise(history) if event.move == "redrive"
    )


def tenants(known: Evidence) -> Complaints:
    """I7: every row, entry, webhook and log line carries the submitter's tenant."""
    for one in known.told:
        subject = known.rows.get(one.job_id or "")
        if subject is not None and one.tenant != subject.tenant:
            yield f"job {subject.id} of tenant {subject.tenant} is told of by a webhook of tenant {one.tenant}"
    for row in known.rows_of_test():
        if row.tenant != known.tenant:
            yield f"job {row.id} belongs to tenant {row.tenant} and was submitted by {known.tenant}"
        for event in known.history(row.id):
            if event.tenant != row.tenant:
                yield f"job {row.id} of tenant {row.tenant} has a {event.move} of tenant {event.tenant}"
    for name, line in _log_lines(known):
        row = known.rows.get(line.get("job_id", ""))
        if row is not None and (tenant := line.get("tenant_id")) != row.tenant:
            yield f"job {row.id} of tenant {row.tenant} is told of by {name} as of tenant {tenant}: {line.get('event')}"


def _log_lines(known: Evidence) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, words in known.logs.items():
        for line in words.splitlines():
            if line.startswith("{") and '"job_id"' in line and line.endswith("}"):
                yield name, json.loads(line)


def liveness(known: Evidence) -> Complaints:
    """I8: all is done within the time that recovery may take, and no process had to be started by hand."""
    if known.settled_after is None or known.settled_after > known.within:
        yield f"after {known.within:g} s not all jobs had ended: {known.settled_after}"
    for name in known.restarted:
        yield f"the process {name} ended by itself"


def no_leak(known: Evidence) -> Complaints:
    """I9: descriptors, threads, database and AMQP connections are back to where they were, within SLACK."""
    for name, before in known.before.items():
        for kind, held in vars(before).items():
            now = getattr(known.after.get(name, Usage(0, 0, 0, 0)), kind)
            if now > held + getattr(SLACK, kind):
                yield f"{name} holds {now} {kind} and held {held}"
    for pid in known.orphans:
        yield f"process {pid} outlived its parent and does not end"


def honest_health(known: Evidence) -> Complaints:
    """I10: /readyz says what is down while it is, and is ok when nothing is; /healthz is 200 wherever somebody listens.

    Where processes were struck, one that was frozen listens and does not answer.
    """
    for sample in known.samples:
        if sample.alive == HANGING and known.struck is None:
            yield f"the API did not answer within {sample.took:.1f} s"
        elif sample.alive not in {200, 0, HANGING}:
            yield f"/healthz answered {sample.alive}"
    for outage in known.outages:
        since, until = outage.since + HEALTH_LAG_SECONDS, outage.until
        asked = [sample for sample in known.samples if since <= sample.at and sample.at + sample.took <= until]
        told = [sample for sample in asked if sample.answered]
        if not told or any(sample.checks.get(outage.dependency) == "ok" for sample in told):
            said = {round(sample.at - outage.since, 1): sample.checks.get(outage.dependency) for sample in told}
            yield f"{outage.dependency} was away and /readyz did not say so after seconds: {said}"
    last = known.samples[-1] if known.samples else None
    if last is not None and (last.alive, last.ready) != (200, 200):
        yield f"after all /healthz answers {last.alive} and /readyz {last.ready}: {last.checks}"
    if last is not None and any(state != "ok" for state in last.checks.values()):
        yield f"after all /readyz says {last.checks}"


def no_secrets(known: Evidence) -> Complaints:
    """I11: planted secrets appear in no log, answer or metric."""
    places = {f"the log of {name}": words for name, words in known.logs.items()}
    places |= {f"the metrics of {name}": page for name, page in known.pages.items()}
    places |= {f"answer {number}": answer for number, answer in enumerate(known.answers)}
    for place, words in places.items():
        for number, canary in enumerate(known.canaries):
            if canary in words:
                yield f"{place} contains canary {number}"


def nothing_silent(known: Evidence) -> Complaints:
    """I12: each move off the straight path, and each run that came too late, counts on a metric of its process.

    Counters die with their process, so that only what living ones did can be asked for.
    """
    made = Counter(event.move for event in known.events if event.actor in known.live_actors)
    for move in COUNTED:
        counted = known.counted("jobmill_moves_total", move=move)
        if made[move] > counted:
            yield f"the history has {made[move]} {move} of living processes, their metrics count {counted:g}"
    late = [entry for entry in known.entries if entry.event == "end" and _is_stale(entry, known)]
    stale = known.counted("jobmill_stale_total", move="finish")
    if len(late) > stale:
        jobs = sorted({entry.job_id for entry in late})
        yield f"{len(late)} runs ended too late, the metrics count {stale:g} stale: {jobs}"


def _is_stale(entry: Entry, known: Evidence) -> bool:
    """Whether a living process ended this run when another had taken the job over."""
    row = known.rows.get(entry.job_id)
    if row is None or entry.pid not in known.live_pids:
        return False
    moves = [event for event in known.history(entry.job_id) if event.lease == entry.lease]
    taken = entry.lease < row.lease or any(event.move == "rescue" for event in moves)
    return taken and not any(event.move in {"retry", "snooze", "interrupt", "bury", "stop"} for event in moves)


INVARIANTS: dict[str, Callable[[Evidence], Complaints]] = {
    "I1 no loss": no_loss,
    "I2 one effect": one_effect,
    "I2 one webhook": one_webhook,
    "I3 lease order": lease_order,
    "I4 bounded repeats": bounded_repeats,
    "I5 nothing foreign": nothing_foreign,
    "I6 honest attempts": honest_attempts,
    "I7 tenants": tenants,
    "I8 liveness": liveness,
    "I9 no leak": no_leak,
    "I10 honest health": honest_health,
    "I11 no secrets": no_secrets,
    "I12 nothing silent": nothing_silent,
}


def complaints(known: Evidence) -> list[str]:
    """Every violation there is evidence for."""
    return [f"{name}: {complaint}" for name, holds in INVARIANTS.items() for complaint in holds(known)]


def check(installation: Installation, ledger: Ledger, submitted: Sequence[Mapping[str, Any]], **known: Any) -> Evidence:
    """Wait until all is quiet, look everywhere, and fail with every complaint. See `judge` for what may be `known`."""
    seen, found = judge(installation, ledger, submitted, **known)
    assert not found, "\n".join(found)
    return seen


def judge(
    installation: Installation,
    ledger: Ledger,
    submitted: Sequence[Mapping[str, Any]],
    *,
    lifted_at: float | None = None,
    faults: int | None = None,
    watch: HealthWatch | None = None,
    outages: Sequence[Outage] = (),
    canaries: Sequence[str] = (),
    supervisor: Supervisor | None = None,
    within: float = RECOVERY_SECONDS,
    tenant: str | None = None,
) -> tuple[Evidence, list[str]]:
    """Wait until all is quiet, and look everywhere; gives what was seen, and every complaint.

    `submitted` are the jobs that were answered with 202. `lifted_at` is when the fault ended (default: now), `faults`
    how many may have hit one job; a `supervisor` knows more of them. What the processes held before is
    `installation.at_rest`. `within` is longer than recovery may take only where a backlog has to be worked off.
    `tenant` is whose jobs they are, where they were not submitted with the installation's own key.
    """
    settled = settle(installation, submitted, lifted_at or time.monotonic(), within)
    return quiet_evidence(
        lambda: gather(
            installation,
            ledger,
            submitted,
            tenant=tenant,
            faults=faults,
            before=installation.at_rest,
            samples=[*(watch.samples if watch else []), look(installation.address)],
            outages=outages,
            canaries=[*canaries, *_secrets_of(installation)],
            settled_after=settled,
            within=within,
            restarted=[name for name, process in installation.processes.items() if not process.alive]
            + (supervisor.ended if supervisor else []),
            struck=supervisor.struck if supervisor else None,
            thawed=supervisor.thawed if supervisor else (),
            orphans=supervisor.orphans() if supervisor else [],
        )
    )


def quiet_evidence(gathered: Callable[[], Evidence]) -> tuple[Evidence, list[str]]:
    """Look until there is nothing to complain of, or what may lag behind has had its time; the last look counts."""
    deadline = time.monotonic() + CALM_SECONDS
    while True:
        known = gathered()
        found = complaints(known)
        if not found or known.settled_after is None or time.monotonic() > deadline:
            return known, found
        time.sleep(0.2)


def _secrets_of(installation: Installation) -> list[str]:
    """What came with the installation's settings: the secret part of its API key, and its secret key."""
    planted = [installation.key.split("_", 2)[2], installation.settings.get("JOBMILL_SECRET_KEY", "")]
    return [secret for secret in planted if secret]
