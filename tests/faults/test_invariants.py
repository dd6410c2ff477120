"""The checker itself: a history in which all is well passes, and each way of breaking it is complained of."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.acceptance.ledger import Entry
from tests.faults.evidence import Endpoint, Event, Evidence, Row, Told, Usage
from tests.faults.health import HANGING, Outage, Sample
from tests.faults.invariants import INVARIANTS, complaints

JOB, OTHER, TENANT = "a", "b", "t"
OK = {"database": "ok", "rabbitmq": "ok"}
PAGE = """\
# TYPE jobmill_moves_total counter
jobmill_moves_total{move="rescue"} 1.0
# TYPE jobmill_stale_total counter
jobmill_stale_total{move="finish"} 1.0
"""
_moments = count(1)


def row(**changed: Any) -> Row:
    """A job that succeeded in its second run, after it was rescued from the first."""
    plain = Row(JOB, TENANT, "fault.quick", "succeeded", attempt=1, lost=1, lease=2, result={"lease": 2}, key="k")
    return replace(plain, **changed)


def event(move: str, state: str = "queued", lease: int = 1, **changed: Any) -> Event:
    plain = Event(JOB, TENANT, next(_moments), move, state, attempt=1, lease=lease, actor="dispatcher:d")
    return replace(plain, **changed)


def entry(what: str, lease: int, **changed: Any) -> Entry:
    return replace(Entry(what, JOB, lease, attempt=1, at=float(next(_moments)), pid=7), **changed)


def told(**changed: Any) -> Told:
    return replace(Told("d", TENANT, JOB, "job.succeeded", "e", "https://example.com"), **changed)


RESCUE = event("rescue")
ENTRIES = [entry("start", 1), entry("start", 2), entry("end", 2)]


LISTENER = Endpoint("0", TENANT, ["job.succeeded"])
ASKED = {"url": "https://example.com", "events": ["job.succeeded", "job.dead"]}


def evidence(**changed: Any) -> Evidence:
    """What is found when all is well."""
    well = Evidence(
        submitted=[JOB],
        accepted=frozenset({JOB}),
        asked=frozenset({"k"}),
        tenant=TENANT,
        rows={JOB: row()},
        events=[RESCUE],
        entries=ENTRIES,
        pages={"dispatcher": PAGE},
        logs={"worker": '{"event": "job_moved", "job_id": "a", "tenant_id": "t"}\nplain words'},
        answers=['{"status": "ok"}'],
        canaries=["canary"],
        live_actors=frozenset({"dispatcher:d"}),
        live_pids=frozenset({7}),
        before={"worker": Usage(10, 10, 2, 2)},
        after={"worker": Usage(10, 10, 2, 2)},
        samples=[
            Sample(1.0, 200, 200, OK),
            Sample(15.0, 200, 200, OK | {"rabbitmq": "down"}),
            Sample(19.5, 200, 200, OK, took=1.0),  # answered when it was back
            Sample(30.0, 200, 200, OK),
        ],
        outages=[Outage("rabbitmq", 10.0, 20.0)],
        faults=1,
        struck={7: ENTRIES[0].at + 0.5},
    )
    return replace(well, **changed)


def with_row(**changed: Any) -> Evidence:
    return evidence(rows={JOB: row(**changed)})


def test_a_history_in_which_all_is_well_passes():
    assert complaints(evidence()) == []


def test_whom_a_job_names_is_told_of_the_end_that_it_came_to_and_of_no_other():
    assert complaints(evidence(rows={JOB: row(webhook=ASKED)}, told=[told()])) == []


@pytest.mark.parametrize(
    "changed", [{}, {"tenant": "u"}, {"types": ["csv.*"]}, {"events": ["job.dead"]}, {"id": "b"}], ids=str
)
def test_an_endpoint_is_told_of_what_it_asked_for_and_of_nothing_else(changed: dict[str, Any]):
    """The last one was made after the job."""
    known = [] if changed else [told(to=LISTENER.id)]
    assert complaints(evidence(endpoints=[replace(LISTENER, **changed)], told=known)) == []


def test_an_api_that_was_frozen_may_leave_its_clients_waiting():
    assert complaints(evidence(samples=[Sample(1.0, HANGING, HANGING), *evidence().samples])) == []


FROZEN_AT = ENTRIES[1].at - 0.5
LATE = [ENTRIES[1], replace(ENTRIES[0], at=ENTRIES[1].at + 25.1, pid=8), ENTRIES[2]]
"""Its first start was committed, its process stood still before the handler's first line, and went on 25 s later."""


def test_a_zombie_that_begins_a_run_that_was_taken_from_it_meanwhile_is_no_fault():
    thawed = [(8, ENTRIES[1].at + 25)]
    assert complaints(evidence(entries=LATE, struck={8: FROZEN_AT}, thawed=thawed)) == []


BROKEN = {
    "I1 no loss": [
        evidence(rows={}, entries=[], events=[]),
        with_row(state="queued"),
        with_row(state="running"),
        with_row(state="dispatched"),
    ],
    "I2 one effect": [
        evidence(events=[RESCUE, event("bury", "dead")]),  # and succeeded all the same
        evidence(rows={JOB: row(state="dead")}, events=[event("bury", "dead"), event("bury", "dead", 2)]),
        evidence(rows={JOB: row(state="cancelled")}, events=[RESCUE]),
        with_row(result={"lease": 1}),
        with_row(result=None),
        evidence(entries=ENTRIES[:-1]),
        evidence(entries=[*ENTRIES, entry("end", 2)]),
        evidence(entries=[*ENTRIES, entry("start", 2)]),
        evidence(rows={JOB: row(type="fault.pay")}),  # nothing paid
        evidence(rows={JOB: row(type="fault.pay")}, payments=[(JOB, 1, 2), (JOB, 1, 2)]),
        evidence(rows={JOB: row(type="fault.pay")}, payments=[(JOB, 1, 1)]),  # under the lease that was lost
        evidence(rows={JOB: row(type="fault.pay", state="dead")}, payments=[(JOB, 1, 2)]),
    ],
    "I3 lease order": [
        evidence(events=[event("rescue", lease=2), event("rescue", lease=1)]),
        evidence(entries=[entry("start", 2), entry("start", 1), entry("end", 2)]),
        evidence(entries=[entry("start", 1), entry("start", 1), entry("end", 2)]),
        evidence(entries=LATE, struck={8: FROZEN_AT}, thawed=[(7, ENTRIES[1].at + 25)]),  # of another that was well
        evidence(entries=LATE, struck={8: FROZEN_AT}, thawed=[(8, ENTRIES[1].at + 15)]),  # long after it went on
        with_row(lease=1, result={"lease": 1}),
    ],
    "I4 bounded repeats": [
        evidence(events=[]),
        evidence(faults=0),
        evidence(entries=[entry("start", 0), *ENTRIES]),
        evidence(struck={}),  # rescued from a process that was well
        evidence(struck={7: ENTRIES[0].at - 0.5}),  # or that was struck earlier, and had gone on since
        evidence(struck={7: ENTRIES[0].at - 9}, thawed=[(7, ENTRIES[0].at - 6)]),
    ],
    "I5 nothing foreign": [
        evidence(rows={JOB: row(), OTHER: row(id=OTHER, key=None)}),
        evidence(entries=[*ENTRIES, entry("start", 1, job_id=OTHER)]),
        evidence(events=[RESCUE, event("rescue", job_id=OTHER)]),
    ],
    "I6 honest attempts": [
        with_row(attempt=3),
        with_row(attempt=2),  # its rescue cost it one
        with_row(attempt=0, lost=1),
        with_row(lost=0),
        with_row(lost=2),
        evidence(events=[event("bury", "dead"), event("redrive", attempt=0)], rows={JOB: row(lost=0, attempt=2)}),
    ],
    "I2 one webhook": [
        evidence(told=[told(), told(event_id="e2")]),
        evidence(told=[told(event="job.dead")]),
        evidence(told=[told(), told(id="d2")]),
        with_row(webhook=ASKED),
        evidence(rows={JOB: row(webhook=ASKED)}, told=[told(to="https://example.org")]),
        evidence(endpoints=[LISTENER]),
        evidence(endpoints=[replace(LISTENER, types=["csv.*", "fault.*"])]),
        evidence(endpoints=[LISTENER], told=[told(to=LISTENER.id), told(to=LISTENER.id, event_id="e2")]),
    ],
    "I7 tenants": [
        evidence(told=[told(tenant="u")]),
        with_row(tenant="u"),
        evidence(events=[replace(RESCUE, tenant="u")]),
        evidence(logs={"worker": '{"event": "job_moved", "job_id": "a", "tenant_id": "u"}'}),
        evidence(logs={"worker": '{"event": "job_moved", "job_id": "a"}'}),
    ],
    "I8 liveness": [
        evidence(settled_after=None),
        evidence(settled_after=31.0),
        evidence(restarted=["worker"]),
    ],
    "I9 no leak": [
        evidence(after={"worker": Usage(60, 10, 2, 2)}),
        evidence(after={"worker": Usage(10, 60, 2, 2)}),
        evidence(after={"worker": Usage(10, 10, 22, 2)}),
        evidence(after={"worker": Usage(10, 10, 2, 3)}),
        evidence(orphans=[8]),
    ],
    "I10 honest health": [
        evidence(samples=[Sample(1.0, 500, 200, OK), Sample(30.0, 200, 200, OK)], outages=[]),
        evidence(samples=[Sample(1.0, HANGING, HANGING), Sample(30.0, 200, 200, OK)], outages=[], struck=None),
        evidence(samples=[Sample(1.0, 200, 200, OK), Sample(15.0, 200, 200, OK), Sample(30.0, 200, 200, OK)]),
        evidence(samples=[Sample(1.0, 200, 200, OK), Sample(30.0, 200, 200, OK)]),  # nobody looked
        evidence(samples=[Sample(30.0, 200, 503, OK | {"database": "down"})], outages=[]),
        evidence(samples=[Sample(30.0, 200, 200, OK | {"rabbitmq": "down"})], outages=[]),
        evidence(samples=[Sample(30.0, 0, 0)], outages=[]),
    ],
    "I11 no secrets": [
        evidence(logs={"worker": "it is canary"}),
        evidence(pages={"worker": PAGE + "# canary"}),
        evidence(answers=['{"key": "canary"}']),
    ],
    "I12 nothing silent": [
        evidence(pages={}),
        evidence(events=[RESCUE, event("rescue")]),
        evidence(pages={"dispatcher": PAGE.replace("finish", "start")}, entries=[*ENTRIES, entry("end", 1)]),
    ],
}


def test_every_invariant_is_broken_here():
    assert BROKEN.keys() == INVARIANTS.keys()


@pytest.mark.parametrize(
    ("name", "known"),
    [pytest.param(name, known, id=f"{name}-{number}") for name in BROKEN for number, known in enumerate(BROKEN[name])],
)
def test_a_broken_history_is_complained_of(name: str, known: Evidence):
    found = list(INVARIANTS[name](known))
    assert found
    assert all(f"{name}: {complaint}" in complaints(known) for complaint in found)


@pytest.mark.parametrize("name", ["I1 no loss", "I2 one effect", "I3 lease order", "I4 bounded repeats", "I7 tenants"])
def test_a_complaint_about_jobs_names_them(name: str):
    for known in BROKEN[name]:
        assert all("job a" in complaint for complaint in INVARIANTS[name](known))


@pytest.mark.parametrize(
    ("state", "moves"),
    [
        ("succeeded", [("retry", "queued"), ("interrupt", "queued")]),
        ("dead", [("bury", "dead")]),
        ("dead", [("bury", "dead"), ("redrive", "queued"), ("bury", "dead")]),
        ("succeeded", [("bury", "dead"), ("redrive", "queued")]),
        ("discarded", [("bury", "dead"), ("discard", "discarded")]),
        ("cancelled", [("cancel", "cancelled")]),
        ("cancelled", [("cancel", "running"), ("stop", "cancelled")]),
        ("dead", [("rescue", "queued"), ("rescue", "queued"), ("rescue", "dead")]),
    ],
)
def test_every_proper_end_passes(state: str, moves: list[tuple[str, str]]):
    known = evidence(rows={JOB: row(state=state)}, events=[event(move, to) for move, to in moves])
    assert not list(INVARIANTS["I2 one effect"](known))
