"""Everything that a request or a loop asks of the database, over a crowd of finished jobs, for tests of plans."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

from sqlalchemy import event, insert, select
from sqlalchemy.orm import Session

from models import (
    backlog,
    dead_groups,
    dead_letters,
    gate,
    inspection,
    lease,
    letters,
    lineup,
    lists,
    moves,
    queries,
    queue_figures,
    redrive_letters,
    redrives,
    reports,
    standing,
    webhook_deliveries,
    worker,
)
from models.database import Database
from models.dead_groups import Mark
from models.dead_letters import DeadFilter, Died
from models.fingerprint import fingerprint
from models.ids import new_id
from models.job import GATED_QUEUE, Ref, job_events, jobs
from models.letters import Letter
from models.lineup import Lane
from models.lists import JobFilter
from models.moves import Ending
from models.reports import Report
from models.states import FINAL, LIVE, Move, State
from models.webhook_deliveries import NewDelivery
from tests.factories import ago, columns_in, insert_jobs, new_job, tenant_id_of

TENANTS = ("blue", "green", "red", "grey")
TYPES = ("demo.echo", "csv.profile", "http.request")
QUEUES = ("default", "webhooks", "media")
RARE, NOBODYS = "rare", "nobodys"
ENDPOINT, NOBODYS_ENDPOINT = new_id(), new_id()
PAGE = 20
FINISHED_IN_TURN = (State.SUCCEEDED,) * 7 + (State.DEAD, State.CANCELLED, State.DISCARDED)
WORKERS = [new_id() for _ in range(3)]


@dataclass(frozen=True)
class Crowd:
    """What a question may ask for: a tenant, and some of its jobs."""

    tenant_id: UUID
    some_id: UUID
    refs: dict[State, list[Ref]]

    def of(self, state: State) -> list[Ref]:
        return self.refs[state][:PAGE]

    def endings(self, state: State) -> list[Ending]:
        return [Ending(ref, result="1", error='"x"') for ref in self.of(state)]


def add_finished(session: Session, how_many: int, first: int = 0) -> None:
    """Finished jobs of every tenant, type, queue and state, each with keys, a second apart."""
    tenants = [tenant_id_of(session, name) for name in TENANTS]
    rows = [
        columns_in(
            FINISHED_IN_TURN[(number // 4) % len(FINISHED_IN_TURN)],
            tenants[number % 4],
            type=TYPES[(number // 3) % 3],
            queue=QUEUES[(number // 5) % 3],
            idempotency_key=f"key-{number}",
            unique_key=f"unique-{number % 400}",
            finished_at=ago(days=30, seconds=-number),
            worker_id=WORKERS[number % 3],
            tags={"colour": "blue", "size": f"s{number % 7}"},
        )
        for number in range(first, first + how_many)
    ]
    insert_jobs(session, rows)
    _add_deliveries(session, tenants[0], how_many // 20, first)
    session.execute(insert(job_events), [_buried(row) for row in rows if row["state"] in (State.DEAD, State.DISCARDED)])


def _add_deliveries(session: Session, tenant_id: UUID, how_many: int, first: int) -> None:
    """Finished deliveries of a tenant to its endpoint, each of a job of its own."""
    told = {"type": webhook_deliveries.TYPE, "queue": GATED_QUEUE, "gate_id": ENDPOINT}
    rows = [
        columns_in(
            FINISHED_IN_TURN[number % len(FINISHED_IN_TURN)],
            tenant_id,
            finished_at=ago(days=30, seconds=-first - number),
            **told,
        )
        for number in range(how_many)
    ]
    insert_jobs(session, rows)
    webhook_deliveries.add(
        session,
        [NewDelivery(row["id"], tenant_id, ENDPOINT, None, new_id(), "job.dead", new_id(), b"{}") for row in rows],
    )


def _buried(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id(),
        "job_id": row["id"],
        "tenant_id": row["tenant_id"],
        "at": row["finished_at"],
        "move": Move.BURY,
        "state": State.DEAD,
        "attempt": row["attempt"],
        "lease": row["lease"],
        "actor": "worker",
        "error": row["error"],
    }


def add_live(session: Session) -> None:
    """A few hundred jobs of every live state, and the workers that run them."""
    for number, worker_id in enumerate(WORKERS):
        worker.register(session, worker_id, host="h", pid=number, queues=QUEUES, threads=8, version="1")
    tenant_id = tenant_id_of(session, TENANTS[0])
    for state, how_many in ((State.QUEUED, 240), (State.DISPATCHED, 90), (State.RUNNING, 60)):
        rows = [_live(state, tenant_id, number) for number in range(how_many)]
        insert_jobs(session, rows)
    insert_jobs(session, _dead_in_every_part(session))
    insert_jobs(
        session,
        [
            columns_in(State.SUCCEEDED, tenant_id, type=RARE, queue=RARE, tags={"colour": "blue", "rare": "yes"})
            for _ in range(PAGE)
        ],
    )


def _dead_in_every_part(session: Session) -> list[dict[str, Any]]:
    """So that the smaller crowd has as many counts of dead jobs as the larger: to tell of them costs as much in both.

    They are older than all others, so that no question about the newest jobs is about them.
    """
    types = (*TYPES, webhook_deliveries.TYPE)
    cells = product([tenant_id_of(session, name) for name in TENANTS], types, QUEUES, range(8))
    return [
        columns_in(State.DEAD, tenant_id, id=UUID(int=(number << 8) + part), type=job_type, queue=queue)
        for number, (tenant_id, job_type, queue, part) in enumerate(cells)
    ]


def _live(state: State, tenant_id: UUID, number: int) -> dict[str, Any]:
    running = {"worker_id": WORKERS[number % 3]} if state == State.RUNNING else {}
    return columns_in(
        state, tenant_id, queue=QUEUES[number % 3], priority=number % 2, idempotency_key=f"{state}-{number}", **running
    )


def crowd_of(session: Session) -> Crowd:
    tenant_id = tenant_id_of(session, TENANTS[0])
    refs = {state: _refs_in(session, tenant_id, state) for state in State}
    return Crowd(tenant_id, refs[State.SUCCEEDED][0].id, refs)


def _refs_in(session: Session, tenant_id: UUID, state: State) -> list[Ref]:
    newest = select(jobs.c.id, jobs.c.lease).where(jobs.c.tenant_id == tenant_id, jobs.c.state == state)
    return [Ref(*row) for row in session.execute(newest.order_by(jobs.c.id.desc()).limit(100))]


Question = Callable[[Session, Crowd], Any]


def _list(before: bool = False, **wanted: Any) -> Question:
    def ask(session: Session, crowd: Crowd) -> Any:
        told = {"tenant_id": crowd.tenant_id, **wanted}
        return lists.list_jobs(session, JobFilter(**told), crowd.some_id if before else None, PAGE)

    return ask


LISTS: dict[str, Question] = {
    f"list {name}{' from a cursor' if before else ''}": _list(before, **wanted)
    for before in (False, True)
    for name, wanted in {
        "all": {},
        "by type": {"types": (TYPES[0],)},
        "by queue": {"queue": QUEUES[0]},
        "by types": {"types": TYPES[:2]},
        "by a rare type": {"types": (RARE,)},
        "by a rare queue": {"queue": RARE},
        "by a rare type and a common one": {"types": (RARE, TYPES[0])},
        "by rare types": {"types": (RARE, NOBODYS)},
        "by nobody's type": {"types": (NOBODYS,)},
        "by nobody's queue": {"queue": NOBODYS},
        "by state and rare type": {"states": (State.SUCCEEDED,), "types": (RARE,)},
        "by live states": {"states": LIVE},
        "by final states": {"states": FINAL},
        "by a tag": {"tag": ("colour", "blue")},
        "by a rare tag": {"tag": ("rare", "yes")},
        "by nobody's tag": {"tag": ("colour", "nobody's")},
        "by state and tag": {"states": (State.SUCCEEDED,), "tag": ("colour", "blue")},
        "by state and rare tag": {"states": (State.SUCCEEDED,), "tag": ("rare", "yes")},
        "by type and rare tag": {"types": (RARE,), "tag": ("rare", "yes")},
        "by unique key": {"unique_key": "unique-8"},
        "by nobody's unique key": {"unique_key": "nobody's"},
        "by state and unique key": {"states": (State.SUCCEEDED,), "unique_key": "unique-8"},
        "by a common type and unique key": {"types": TYPES, "unique_key": "unique-8"},
        "by a common queue and tag": {"queue": QUEUES[0], "tag": ("colour", "blue")},
        "by nobody's queue and a common tag": {"queue": NOBODYS, "tag": ("colour", "blue")},
        "by a common type and nobody's queue": {"types": TYPES[:2], "queue": NOBODYS},
        "by final states and nobody's queue": {"states": FINAL, "queue": NOBODYS},
        "by tag and nobody's unique key": {"tag": ("colour", "blue"), "unique_key": "nobody's"},
        "of every tenant": {"tenant_id": None},
        **{
            f"of every tenant by {name}": {"tenant_id": None, **filters}
            for name, filters in {
                "type": {"types": TYPES[:2]},
                "nobody's type": {"types": (NOBODYS,)},
                "state": {"states": (State.SUCCEEDED,)},
                "live states": {"states": LIVE},
                "nobody's queue": {"queue": NOBODYS},
                "tag": {"tag": ("colour", "blue")},
                "nobody's tag": {"tag": ("colour", "nobody's")},
                "unique key": {"unique_key": "unique-8"},
                "nobody's unique key": {"unique_key": "nobody's"},
            }.items()
        },
        **{f"by state {state}": {"states": (state,)} for state in State},
    }.items()
}


def _dead(behind: bool = False, **wanted: Any) -> Question:
    def ask(session: Session, crowd: Crowd) -> Any:
        told = {"tenant_id": crowd.tenant_id, **wanted}
        at = Died(ago(days=30), crowd.some_id) if behind else None
        return dead_letters.list_dead(session, DeadFilter(**told), at, PAGE)

    return ask


_GROUP = (TYPES[0], fingerprint({"type": "ValueError", "message": "as planted"}))
DEAD_LISTS: dict[str, Question] = {
    f"dead letters {name}{' oldest first' if oldest else ''}{' from a cursor' if behind else ''}": _dead(
        behind, oldest_first=oldest, **wanted
    )
    for behind in (False, True)
    for oldest in (False, True)
    for name, wanted in {
        "all": {},
        "by type": {"type": TYPES[0]},
        "by nobody's type": {"type": NOBODYS},
        "by queue": {"queue": QUEUES[0]},
        "by error": {"error_type": "ValueError"},
        "by nobody's error": {"error_type": NOBODYS},
        "by group": {"group": _GROUP},
        "by nobody's group": {"group": (NOBODYS, _GROUP[1])},
        "by endpoint": {"endpoint_id": ENDPOINT},
        "by nobody's endpoint": {"endpoint_id": NOBODYS_ENDPOINT},
        "by endpoint, type and time": {"endpoint_id": ENDPOINT, "type": TYPES[0], "died_after": ago(days=29)},
        "of every tenant by endpoint": {"tenant_id": None, "endpoint_id": ENDPOINT},
        "by time": {"died_after": ago(days=29), "died_before": ago(days=28)},
        "by type and nobody's queue": {"type": TYPES[0], "queue": NOBODYS},
        "by group, queue and time": {"group": _GROUP, "queue": QUEUES[0], "died_after": ago(days=29)},
        "of every tenant": {"tenant_id": None},
        "of every tenant by nobody's type": {"tenant_id": None, "type": NOBODYS},
        "of every tenant by group": {"tenant_id": None, "group": _GROUP},
    }.items()
}


def _kept_long_enough(session: Session, state: State) -> list[Letter]:
    return letters.kept_long_enough(session, state, timedelta(days=1), PAGE, 1_000_000)


def _deliveries(before: bool = False, **wanted: Any) -> Question:
    def ask(session: Session, crowd: Crowd) -> Any:
        told = {"tenant_id": crowd.tenant_id, **wanted}
        return webhook_deliveries.page(session, before=crowd.some_id if before else None, limit=PAGE, **told)

    return ask


DELIVERIES: dict[str, Question] = {
    f"deliveries {name}{' from a cursor' if before else ''}": _deliveries(before, **wanted)
    for before in (False, True)
    for name, wanted in {
        "of a tenant": {},
        "of every tenant": {"tenant_id": None},
        "to an endpoint": {"endpoint_id": ENDPOINT},
        "to nobody's endpoint": {"endpoint_id": NOBODYS_ENDPOINT},
        "of nobody's job": {"job_id": NOBODYS_ENDPOINT},
        "of nobody's job and of every tenant": {"tenant_id": None, "job_id": NOBODYS_ENDPOINT},
    }.items()
}

READS: dict[str, Question] = {
    "job": lambda s, c: queries.find_job(s, c.some_id, c.tenant_id),
    "idempotency key": lambda s, c: queries.find_by_idempotency_keys(s, c.tenant_id, ["key-400", "key-404"]),
    "jobs by id": lambda s, c: queries.find_by_ids(s, c.tenant_id, [ref.id for ref in c.of(State.SUCCEEDED)]),
    "known keys": lambda s, c: queries.known_idempotency_keys(s, c.tenant_id, ["key-400", "key-404"]),
    "document lengths": lambda s, c: queries.document_lengths(s, [ref.id for ref in c.of(State.SUCCEEDED)]),
    "unparsed": lambda s, c: queries.find_unparsed(s, [ref.id for ref in c.of(State.SUCCEEDED)]),
    "unique holders": lambda s, c: queries.find_unique_holders(s, c.tenant_id, TYPES[0], ["unique-8", "unique-9"]),
    "groups": lambda s, c: dead_groups.list_groups(s, c.tenant_id, None, PAGE),
    "groups from a cursor": lambda s, c: dead_groups.list_groups(
        s, c.tenant_id, Mark(ago(), "x", "x", c.tenant_id), PAGE
    ),
    "groups of every tenant": lambda s, c: dead_groups.list_groups(s, None, None, PAGE),
    "dead figures": lambda s, c: dead_groups.dead_figures(s),
    "redrive": lambda s, c: redrives.find(s, c.some_id, c.tenant_id),
    "redrives": lambda s, c: redrives.list_redrives(s, c.tenant_id, None, PAGE),
    "letters of a redrive": lambda s, c: redrive_letters.following(s, c.some_id, 7, PAGE),
    "sightings of letters": lambda s, c: redrive_letters.sightings(s, c.some_id, 7, PAGE),
    "attempts": lambda s, c: dead_letters.attempts_of(s, c.refs[State.DEAD][0].id, PAGE),
    "args text": lambda s, c: queries.args_text(s, c.some_id),
    "last operation": lambda s, c: queries.last_operation(s, c.refs[State.DEAD][0].id),
    "events": lambda s, c: queries.list_events(s, c.refs[State.DEAD][0].id, None, PAGE),
    "ended lately": lambda s, c: queries.ended_lately(s, PAGE),
    "lanes": lambda s, c: lineup.lanes(s, QUEUES[0]),
    "look of the dispatcher": lambda s, c: lineup.look(s, [*QUEUES, NOBODYS]),
    "waiting tenants": lambda s, c: lineup.waiting_shares(s, Lane(QUEUES[0], 0, ago(), due=True), None, PAGE),
    "in hand of gates": lambda s, c: gate.in_hand(s, [ENDPOINT, NOBODYS_ENDPOINT]),
    "deliveries that wait": lambda s, c: webhook_deliveries.waiting_of(s, ENDPOINT, PAGE),
    "delivery": lambda s, c: webhook_deliveries.find(s, c.some_id, c.tenant_id),
    "in hand": lambda s, c: lineup.in_hand(s, QUEUES[0]),
    "queue names": lambda s, c: queue_figures.queue_names(s, None, None, PAGE),
    "queue names of a tenant": lambda s, c: queue_figures.queue_names(s, c.tenant_id, None, PAGE),
    "queue figures": lambda s, c: queue_figures.figures_of(s, QUEUES, None),
    "queue figures of a tenant": lambda s, c: queue_figures.figures_of(s, QUEUES, c.tenant_id),
    "jobs in a queue": lambda s, c: queue_figures.has_jobs(s, NOBODYS, c.tenant_id),
    "oldest due": lambda s, c: backlog.oldest_due(s, QUEUES[0]),
    "dispatched counts": lambda s, c: lineup.dispatched_counts(s),
    "expired claims": lambda s, c: queries.expired_claims(s, PAGE),
    "settled claims": lambda s, c: queries.settled_claims(s, QUEUES[0], timedelta(seconds=1), PAGE),
    "all dispatched": lambda s, c: queries.all_dispatched(s, PAGE),
    "running of": lambda s, c: queries.running_of(s, WORKERS[:2], PAGE),
    "started by": lambda s, c: queries.started_by(s, c.of(State.RUNNING), WORKERS[0]),
    "present": lambda s, c: queries.present(s, [ref.id for ref in c.of(State.SUCCEEDED)]),
    "serving": lambda s, c: worker.serving(s, QUEUES[0]),
    "find worker": lambda s, c: worker.find_worker(s, WORKERS[0]),
    **{
        f"standing of one {state}": lambda s, c, state=state: standing.standing_of(  # type: ignore[misc]
            s, queries.find_job(s, c.of(state)[0].id, c.tenant_id)
        )
        for state in State
    },
    "lost often": lambda s, c: queries.lost_often(s, c.of(State.DISPATCHED)),
    "moves because": lambda s, c: queries.moves_because(s, c.refs[State.DEAD][0].id, Move.RETRY, "busy"),
    "moved often": lambda s, c: queries.moved_often(
        s, [ref.id for ref in c.of(State.SUCCEEDED)], Move.INTERRUPT, "busy", 3
    ),
    "signals": lambda s, c: queries.signals(s, WORKERS[0]),
    "states of": lambda s, c: queries.states_of(s, c.of(State.SUCCEEDED)),
    "list workers": lambda s, c: worker.list_workers(s),
    "live workers": lambda s, c: worker.live_workers(s),
    "waiting queues": lambda s, c: inspection.waiting_queues(s),
    **{f"longest {state}": lambda s, c, state=state: inspection.longest_final(s, state) for state in FINAL},  # type: ignore[misc]
    "letters kept long enough": lambda s, c: _kept_long_enough(s, State.DISCARDED),
}

WRITES: dict[str, Question] = {
    "record": lambda s, c: moves.record(s, [new_job(s, tenant_id=c.tenant_id, unique_key="u", idempotency_key="i")]),
    "claim": lambda s, c: moves.claim(s, QUEUES[0], 0, PAGE, timedelta(seconds=30)),
    "claim shares": lambda s, c: moves.claim_shares(s, QUEUES[0], 0, {c.tenant_id: PAGE}, timedelta(seconds=30)),
    "release from": lambda s, c: moves.release_from(s, QUEUES[0], PAGE),
    "release": lambda s, c: moves.release(s, c.of(State.DISPATCHED)),
    "start": lambda s, c: moves.start(s, c.of(State.DISPATCHED), WORKERS[0]),
    "succeed": lambda s, c: moves.succeed(s, c.endings(State.RUNNING)),
    "retry": lambda s, c: moves.retry(s, c.endings(State.RUNNING), "w"),
    "snooze": lambda s, c: moves.snooze(s, c.endings(State.RUNNING), "w"),
    "bury": lambda s, c: moves.bury(s, c.endings(State.RUNNING), "w"),
    "rescue": lambda s, c: moves.rescue(s, c.endings(State.RUNNING), "w"),
    "run now": lambda s, c: moves.run_now(s, [ref.id for ref in c.of(State.QUEUED)], "a"),
    "cancel": lambda s, c: moves.cancel(s, [ref.id for ref in c.of(State.QUEUED)], "a"),
    "stop": lambda s, c: moves.stop(s, c.endings(State.RUNNING), "w"),
    "edit": lambda s, c: moves.edit(s, c.of(State.DEAD)[0], '{"value":1}', "{}", "o", "r"),
    "redrive": lambda s, c: moves.redrive(s, c.of(State.DEAD), "o"),
    "discard": lambda s, c: moves.discard(s, c.of(State.DEAD), "o"),
    **{
        f"prune {state}": lambda s, c, state=state: moves.prune(s, state, timedelta(days=1), PAGE)  # type: ignore[misc]
        for state in FINAL
    },
    "prune letters": lambda s, c: moves.prune_letters(s, _kept_long_enough(s, State.DEAD)),
    "progress": lambda s, c: reports.write_progress(s, [Report(ref, 5, "m") for ref in c.of(State.RUNNING)]),
    "checkpoint": lambda s, c: reports.write_checkpoint(s, c.of(State.RUNNING)[0], "1"),
    "renew claims": lambda s, c: reports.renew_claims(s, c.of(State.DISPATCHED), timedelta(seconds=9)),
    "keep claim": lambda s, c: reports.keep_claim(s, c.of(State.DISPATCHED)[0], timedelta(seconds=9)),
    "lead": lambda s, c: lease.lead(s, "dispatcher", WORKERS[0], timedelta(seconds=5)),
    "forget workers": lambda s, c: worker.forget(s, timedelta(hours=1), PAGE),
}

QUESTIONS = LISTS | DEAD_LISTS | DELIVERIES | READS | WRITES


@contextmanager
def statements(session: Session) -> Iterator[list[tuple[str, Any]]]:
    """The statements about jobs that the session sends inside the block, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if ("jobs" in statement or "job_events" in statement) and not statement.startswith("INSERT INTO job"):
            seen.append((statement, parameters))

    bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", keep)
    try:
        yield seen
    finally:
        event.remove(bind, "before_cursor_execute", keep)


def pages_of(database: Database, ask: Callable[[Session], Any]) -> int:
    """The pages that the one statement of a question touches on PostgreSQL."""
    plan = plan_of(database, ask)
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def plan_of(database: Database, ask: Callable[[Session], Any]) -> dict[str, Any]:
    """How PostgreSQL answers the one statement of a question, explained as the session sends it."""
    with Session(database.engine) as session:
        with statements(session) as seen:
            ask(session)
        session.rollback()
        ((statement, parameters),) = seen
        explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
        plan: dict[str, Any] = session.connection().exec_driver_sql(explained, parameters).scalar_one()[0]["Plan"]
        session.rollback()
    return plan


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's nodes."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)
