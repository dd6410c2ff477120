"""What is known of an installation after a fault, read from outside: the handlers' ledger, the tables by SQL, the
metrics pages, the logs, and what the operating system says of the processes.
"""

import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.installation import READY_SECONDS, Embedded, Full, Installation
from tests.acceptance.ledger import Entry, Ledger
from tests.faults.health import Outage, Sample

KEY_ID = "acceptance"


class Place(Protocol):
    """Where jobs are done: its settings, and a way to ask its database from outside."""

    @property
    def mode(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, str]: ...
    def sql(self, statement: str) -> list[Any]: ...


@dataclass(frozen=True)
class Row:
    """A job as its table has it."""

    id: str
    tenant: str
    type: str
    state: str
    attempt: int
    lost: int
    lease: int
    result: Any = None
    key: str | None = None
    webhook: Any = None  # who shall be told of its end, and of which


@dataclass(frozen=True)
class Event:
    """One entry of a job's history; `at` is a moment that can be compared with others of the same database."""

    job_id: str
    tenant: str
    at: Any
    move: str
    state: str
    attempt: int
    lease: int
    actor: str


@dataclass(frozen=True)
class Told:
    """A webhook delivery: of whose end it tells, whom, and as which event."""

    id: str
    tenant: str
    job_id: str | None
    event: str
    event_id: str
    to: str


@dataclass(frozen=True)
class Endpoint:
    """A registered endpoint that is enabled: told of its tenant's jobs from its making on. `types` None: of all."""

    id: str
    tenant: str
    events: Sequence[str]
    types: Sequence[str] | None = None

    def hears_of(self, row: Row) -> bool:
        """Whether a job's ends are its business. Ids begin with the time at which they were made."""
        of_type = self.types is None or any(fnmatchcase(row.type, pattern) for pattern in self.types)
        return row.tenant == self.tenant and row.id > self.id and of_type


@dataclass(frozen=True)
class Usage:
    """What a process and its children hold; `database` and `amqp` are connections."""

    descriptors: int
    threads: int
    database: int
    amqp: int


@dataclass(frozen=True)
class Evidence:
    """Everything that the invariants look at."""

    submitted: Sequence[str]  # ids of the jobs that this test submitted and that were accepted
    accepted: frozenset[str] = frozenset()  # ids of all jobs that the installation ever accepted
    asked: frozenset[str] = frozenset()  # idempotency keys that were sent
    tenant: str = ""
    rows: Mapping[str, Row] = field(default_factory=dict)
    events: Sequence[Event] = ()
    payments: Sequence[tuple[str, int, int]] = ()  # job, attempt, lease
    told: Sequence[Told] = ()
    endpoints: Sequence[Endpoint] = ()
    entries: Sequence[Entry] = ()
    pages: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    answers: Sequence[str] = ()
    canaries: Sequence[str] = ()
    live_actors: frozenset[str] = frozenset()
    live_pids: frozenset[int] = frozenset()
    before: Mapping[str, Usage] = field(default_factory=dict)
    after: Mapping[str, Usage] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    outages: Sequence[Outage] = ()
    faults: int | None = None  # how many faults may have hit one job
    settled_after: float | None = 0.0  # seconds from the fault's end to the last job's; None: not in time
    within: float = 30.0  # how many they may be
    restarted: Sequence[str] = ()  # processes that ended although nobody ended them
    struck: Mapping[int, float] | None = None  # processes that were killed or frozen, and when; None: not known
    thawed: Sequence[tuple[int, float]] = ()  # processes that had stood still, and when they went on
    orphans: Sequence[int] = ()  # processes that outlived their parent, and are still there

    def rows_of_test(self) -> Iterator[Row]:
        """The rows of the submitted jobs that have one."""
        return (self.rows[job_id] for job_id in self.submitted if job_id in self.rows)

    def history(self, job_id: str) -> list[Event]:
        """A job's history, oldest first."""
        return self._histories.get(job_id, [])

    def ledger(self, event: str, job_id: str) -> list[Entry]:
        """What a job's handlers noted, in the order in which they did."""
        return self._ledgers.get((event, job_id), [])

    def paid(self, job_id: str) -> list[int]:
        """The leases of what a job's handlers wrote into a table of the user's own."""
        return self._payments.get(job_id, [])

    @cached_property
    def _histories(self) -> Mapping[str, list[Event]]:
        found = defaultdict(list)
        for event in self.events:
            found[event.job_id].append(event)
        return found

    @cached_property
    def _ledgers(self) -> Mapping[tuple[str, str], list[Entry]]:
        found = defaultdict(list)
        for entry in self.entries:
            found[entry.event, entry.job_id].append(entry)
        return found

    @cached_property
    def _payments(self) -> Mapping[str, list[int]]:
        found = defaultdict(list)
        for job_id, _, lease in self.payments:
            found[job_id].append(lease)
        return found

    def counted(self, name: str, **labels: str) -> float:
        """A metric, summed over all processes that serve theirs."""
        return sum(
            sample.value
            for page in self.pages.values()
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def gather(
    installation: Installation,
    ledger: Ledger,
    submitted: Sequence[Mapping[str, Any]],
    *,
    tenant: str | None = None,
    **known: Any,
) -> Evidence:
    """Look everywhere. `known` is what only the test knows: faults, before, samples, outages.

    The `tenant` whose jobs they are is that of the installation's key, unless another is named.
    """
    # Not the jobs: whoever may read one may read its arguments, and secrets are planted there.
    asked = ["/readyz", "/v1/workers", "/v1/job-types", *(f"/v1/jobs/{job['id']}/events" for job in submitted[:20])]
    answers = [installation.client.get(path).text for path in asked]
    return Evidence(
        submitted=[job["id"] for job in submitted],
        accepted=frozenset(job["id"] for job in installation.accepted),
        asked=frozenset(installation.asked),
        tenant=tenant or own_tenant(installation),
        rows={row.id: row for row in rows(installation)},
        events=events(installation),
        payments=_payments(installation),
        told=told(installation),
        endpoints=endpoints(installation),
        entries=ledger.everything(),
        pages=pages(installation),
        logs={name: process.words for name, process in installation.processes.items()},
        answers=answers,
        live_actors=_live_actors(installation),
        live_pids=frozenset(pid for pids in _pids(installation).values() for pid in pids),
        after=usage(installation),
        **known,
    )


def own_tenant(installation: Installation) -> str:
    """Whose the installation's key is."""
    return _id(installation.sql(f"SELECT tenant_id FROM api_keys WHERE id = '{KEY_ID}'")[0][0])  # noqa: S608


def rows(installation: Place) -> list[Row]:
    """Every job."""
    found = installation.sql(
        "SELECT id, tenant_id, type, state, attempt, lost, lease, idempotency_key, result, webhook FROM jobs"
    )
    read = _reading(installation)
    return [
        Row(_id(job_id), _id(tenant), *plain, result and read(result), key, webhook and read(webhook))
        for job_id, tenant, *plain, key, result, webhook in found
    ]


def events(installation: Place) -> list[Event]:
    """The history of every job, oldest first."""
    found = installation.sql(
        "SELECT job_id, tenant_id, at, move, state, attempt, lease, actor FROM job_events ORDER BY at, id"
    )
    return [Event(_id(job_id), _id(tenant), *plain) for job_id, tenant, *plain in found]


def told(installation: Place) -> list[Told]:
    """Every webhook delivery."""
    found = installation.sql(
        "SELECT id, tenant_id, job_id, event, event_id, endpoint_id, url FROM webhook_deliveries ORDER BY id"
    )
    return [
        Told(_id(one), _id(tenant), job and _id(job), event, _id(event_id), _id(endpoint) if endpoint else url)
        for one, tenant, job, event, event_id, endpoint, url in found
    ]


def endpoints(installation: Place) -> list[Endpoint]:
    """Every webhook endpoint that is enabled."""
    found = installation.sql("SELECT id, tenant_id, events, types FROM webhook_endpoints WHERE enabled")
    read = _reading(installation)
    return [Endpoint(_id(one), _id(tenant), read(of), types and read(types)) for one, tenant, of, types in found]


def pages(installation: Installation) -> dict[str, str]:
    """The metrics page of each process that serves one; one that is just starting is waited for."""
    ports = {name: process.settings.get("JOBMILL_METRICS_PORT") for name, process in installation.processes.items()}
    running = {name: port for name, port in ports.items() if port and installation.processes[name].alive}
    return {name: installation.eventually(lambda: _page(port), READY_SECONDS) for name, port in running.items()}  # noqa: B023 - called at once


def _page(port: str) -> str:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    except httpx2.TransportError:
        return ""


def usage(installation: Installation) -> dict[str, Usage]:
    """What each process holds now, its children included."""
    return {name: usage_of(installation, pids) for name, pids in _pids(installation).items()}


def usage_of(installation: Place, pids: list[int]) -> Usage:
    """What these processes hold together."""
    found = [Usage(0, 0, 0, 0)]
    for pid in pids:
        try:
            process = psutil.Process(pid)
            remote = [link.raddr.port for link in process.net_connections("tcp") if link.raddr]
            database, amqp = (
                sum(map(remote.count, ports(installation, name))) for name in ("DATABASE_URL", "RABBITMQ_URL")
            )
            found.append(Usage(process.num_fds(), process.num_threads(), database, amqp))
        except psutil.NoSuchProcess:
            continue
    return Usage(*(sum(column) for column in zip(*(vars(one).values() for one in found), strict=True)))


def ports(installation: Place, setting: str) -> set[int]:
    """Where the services that a setting names are."""
    urls = installation.settings.get(setting, "").split(",")
    # PostgreSQL's one URL may list several hosts, and those after the first have no scheme.
    parts = [urlsplit(url if "://" in url else f"//{url}") for url in urls if url]
    return {part.port or {"amqp": 5672}.get(part.scheme, 5432) for part in parts}


def _pids(installation: Installation) -> dict[str, list[int]]:
    running = {name: process.pid for name, process in installation.processes.items() if process.alive}
    return {
        name: [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        for name, pid in running.items()
    }


def _live_actors(installation: Installation) -> frozenset[str]:
    """Who writes history now, by the names that history knows: workers whose process lives, parents, and the leader."""
    alive = {pid for pids in _pids(installation).values() for pid in pids}
    workers = installation.sql("SELECT id, pid FROM workers WHERE stopped_at IS NULL")
    holders = installation.sql("SELECT holder FROM leases")
    return frozenset(
        [f"worker:{_id(worker)}" for worker, pid in workers if pid in alive]
        + [f"parent:{socket.gethostname()}:{pid}" for pid in alive]
        + [f"dispatcher:{_id(holder)}" for (holder,) in holders]
    )


def _payments(installation: Installation) -> list[tuple[str, int, int]]:
    exists = {
        Embedded.mode: "SELECT name FROM sqlite_master WHERE name = 'fault_payments'",
        Full.mode: "SELECT tablename FROM pg_tables WHERE tablename = 'fault_payments'",
    }[installation.mode]
    if not installation.sql(exists):
        return []
    found = installation.sql("SELECT job_id, attempt, lease FROM fault_payments")
    return [(job_id, attempt, lease) for job_id, attempt, lease in found]


def _reading(installation: Place) -> Callable[[Any], Any]:
    """What makes a document of what the database gives for one."""
    return json.loads if installation.mode == Embedded.mode else lambda document: document


def _id(value: Any) -> str:
    return str(UUID(str(value)))


def unfinished(installation: Place, submitted: Sequence[Mapping[str, Any]]) -> list[str]:
    """The submitted jobs that have not ended, or have no row."""
    ended = ("succeeded", "dead", "cancelled", "discarded")
    found = installation.sql(f"SELECT id FROM jobs WHERE state IN {ended}")  # noqa: S608 - our own words
    final = {_id(job_id) for (job_id,) in found}
    return [job["id"] for job in submitted if job["id"] not in final]


def settle(
    installation: Place, submitted: Sequence[Mapping[str, Any]], lifted_at: float, within: float
) -> float | None:
    """Wait until every job has ended; gives the seconds since the fault's end, or None if they were not enough."""
    deadline = lifted_at + within
    while unfinished(installation, submitted):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    return time.monotonic() - lifted_at
