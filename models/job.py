"""The tables of jobs and of what happened to them, and the frozen records that leave this folder."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    literal,
    null,
    or_,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.dialect import Document, UtcTime
from models.schema import metadata
from models.states import FINAL, LIVE, SHAPES, State


def _words(states: tuple[State, ...]) -> str:
    return ", ".join(f"'{state}'" for state in states)


def _shape_checks() -> list[CheckConstraint]:
    """One constraint a state, so that a refused row names the state whose shape it broke."""
    return [
        CheckConstraint(
            " AND ".join(
                [f"{name} IS NOT NULL" for name in shape.present] + [f"{name} IS NULL" for name in shape.absent]
            ).join((f"state <> '{state}' OR (", ")")),
            name=f"shape_{state}",
        )
        for state, shape in SHAPES.items()
    ]


GATED_QUEUE = "webhooks"
"""The one queue whose jobs are claimed gate by gate, see models/gate.py."""
OWN_TYPES = frozenset({"webhook.deliver", "dead_letters.redrive"})
"""Types of jobs that Jobmill makes itself: nobody is told of their end by a webhook."""

# Documents are kept as they were submitted and never searched; tags are, and are jsonb.
_TAGS = JSON().with_variant(JSONB(), "postgresql")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("args", Document(), nullable=False),
    Column("result", Document()),
    Column("error", Document()),
    Column("error_type", Text),  # as the next, of what the job last died of
    Column("fingerprint", Text),
    Column("progress_percent", Float(53)),
    Column("progress_message", Text),
    Column("checkpoint", Document()),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("lease_expires_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("dispatched_at", UtcTime),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("cancel_requested_at", UtcTime),
    # No foreign key: a finished job remembers its worker after the worker's row is pruned.
    Column("worker_id", Uuid),
    Column("schedule_id", Uuid),
    Column("gate_id", Uuid),  # see models/gate.py; without a foreign key, since a gate comes and goes
    Column("webhook", Document()),  # who asked, with the job itself, to be told of its end
    Column("tags", _TAGS, nullable=False),
    Column("unique_key", Text),
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    Column("request_id", Text),
    Column("traceparent", Text),
    Column("tracestate", Text),
    CheckConstraint(f"state IN ({_words((*LIVE, *FINAL))})", name="state"),
    CheckConstraint("priority BETWEEN -100 AND 100", name="priority"),
    CheckConstraint("attempt >= 0 AND lost >= 0 AND lease >= 0", name="counters"),
    CheckConstraint("max_attempts >= 1 AND timeout_seconds >= 1", name="bounds"),
    CheckConstraint("state IN ('queued', 'cancelled') OR lease > 0", name="leased"),
    *_shape_checks(),
    Index(
        "jobs_idempotency_key",
        "tenant_id",
        "idempotency_key",
        unique=True,
        sqlite_where=text("idempotency_key IS NOT NULL"),
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    # By PostgreSQL's own rule a vacuum comes once a fifth of the table is dead. Of five million jobs kept that is after
    # 300,000 more, and a claim walks past what is left of each of them in its index.
    postgresql_with={
        "fillfactor": "80",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.02",
    },
)


def _partial(name: str, where: str, *columns: Any, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


_c = jobs.c
_partial(
    "jobs_unique_key",
    f"unique_key IS NOT NULL AND state IN ({_words(LIVE)})",
    _c.tenant_id,
    _c.type,
    _c.unique_key,
    unique=True,
)
_partial("jobs_claim", "state = 'queued'", _c.queue, _c.priority, _c.due_at, _c.id)
_WAITS = "dispatched_at IS NULL AND finished_at IS NULL"
_partial("jobs_claim_by_tenant", _WAITS, _c.queue, _c.priority, _c.tenant_id, _c.due_at, _c.id)
SHARE = func.coalesce(_c.gate_id, _c.tenant_id, type_=Uuid())
_partial("jobs_claim_by_gate", f"queue = '{GATED_QUEUE}' AND {_WAITS}", _c.priority, SHARE, _c.due_at, _c.id)
_IN_HAND = "gate_id IS NOT NULL AND dispatched_at IS NOT NULL AND finished_at IS NULL"
_partial("jobs_in_hand_by_gate", _IN_HAND, _c.gate_id)
_partial("jobs_dispatched", "state = 'dispatched'", _c.queue, _c.dispatched_at)
_partial("jobs_claim_expiry", "state = 'dispatched'", _c.lease_expires_at)
_partial("jobs_running", "state = 'running'", _c.worker_id)
for _name, _columns in {
    "": [],
    "_by_type": [_c.type],
    "_by_queue": [_c.queue],
    "_by_error": [_c.error_type],
    "_by_group": [_c.type, _c.fingerprint],
}.items():
    _partial(f"jobs_dead{_name}", "state = 'dead'", _c.tenant_id, *_columns, _c.finished_at, _c.id)
_partial("jobs_dead_by_gate", "state = 'dead' AND gate_id IS NOT NULL", _c.gate_id, _c.finished_at, _c.id)
_partial("jobs_dead_oldest", "state = 'dead'", _c.queue, _c.type, _c.finished_at)
_partial("jobs_finished", "finished_at IS NOT NULL", _c.state, _c.finished_at)
Index("jobs_list", _c.tenant_id, _c.id)
for _name in ("state", "type", "queue"):
    Index(f"jobs_list_by_{_name}", _c.tenant_id, _c[_name], _c.id)
_partial("jobs_list_by_unique_key", "unique_key IS NOT NULL", _c.tenant_id, _c.unique_key, _c.id)

job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("tenant_id", Uuid, nullable=False),
    Index("job_tags_list", "name", "value", "tenant_id", "job_id"),
)
"""The tags of jobs once more, to be searched; a trigger writes them. An index within a JSON document knows no order."""

job_events = Table(
    "job_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", Uuid, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("move", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("error", Document()),
    Index("job_events_of_job", "job_id", "id"),
)


def in_state(*states: State, of: FromClause = jobs) -> ColumnElement[bool]:
    """Whether a job is in one of those states.

    The states are written into the statement, not bound: a prepared plan can use a partial index only for
    states it knows, and guesses wrong how many jobs are in a state it does not.
    """
    if len(states) == 1:  # SQLite takes a partial index on `=` for `=` only, not for IN of one
        return of.c.state == literal(states[0], literal_execute=True)
    return of.c.state.in_(bindparam(None, states, type_=Text(), expanding=True, literal_execute=True, unique=True))


def still_in(*states: State, of: FromClause = jobs) -> ColumnElement[bool]:
    """Whether a job that is looked up by its id is in one of those states: the guard of a move.

    Written so that no partial index answers it. A queue's indexes carry thousands of dead entries between
    two vacuums, and the planner, who does not see them, would read them all to find one job.
    """
    found = func.coalesce(of.c.state, "")
    # Not `IN`, which SQLAlchemy writes anew at each execution.
    return or_(*(found == state for state in states))


class Ref(NamedTuple):
    """A job under one lease. What a message carries, and what fences every move of a worker."""

    id: UUID
    lease: int


@dataclass(frozen=True)
class Job:
    """A job as it is read: the row, less what only the moves need."""

    id: UUID
    tenant_id: UUID
    type: str
    queue: str
    state: State
    priority: int
    args: Any
    result: Any
    error: Any
    progress_percent: float | None
    progress_message: str | None
    attempt: int
    max_attempts: int
    lost: int
    timeout_seconds: int
    lease: int
    created_at: datetime
    due_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    tags: dict[str, str]
    unique_key: str | None
    idempotency_key: str | None
    worker_id: UUID | None
    schedule_id: UUID | None
    fingerprint: str | None = None
    gate_id: UUID | None = None

    @property
    def final(self) -> bool:
        """Whether no worker will touch this job again."""
        return self.state in FINAL


JOB_COLUMNS = tuple(jobs.c[field.name] for field in fields(Job))
"""What a query selects to give jobs, by `as_job`."""
DOCUMENTS = ("args", "result", "error")
"""What of a job can be large. A read may leave it out, and gets None for it."""


def columns_without(documents: frozenset[str]) -> list[ColumnElement[Any]]:
    """JOB_COLUMNS with NULL for some of DOCUMENTS."""
    return [
        type_coerce(null(), column.type).label(column.name) if column.name in documents else column
        for column in JOB_COLUMNS
    ]


def as_job(row: Mapping[Any, Any]) -> Job:
    """A job from a row of JOB_COLUMNS."""
    return Job(**{**row, "state": State(row["state"])})


@dataclass(frozen=True)
class NewJob:
    """A job to record. `id` is a UUIDv7; `delay_seconds` counts from the database's clock unless `due_at` is given."""

    id: UUID
    tenant_id: UUID
    type: str
    queue: str
    args: Any
    priority: int
    max_attempts: int
    timeout_seconds: int
    tags: dict[str, str]
    due_at: datetime | None = None
    delay_seconds: float = 0
    unique_key: str | None = None
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    request_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    gate_id: UUID | None = None
    webhook: Any = None


@dataclass(frozen=True)
class JobEvent:
    """One entry of a job's history: a move off the straight path."""

    id: UUID
    at: datetime
    move: str
    state: State
    attempt: int
    lease: int
    actor: str
    reason: str | None
    error: Any
