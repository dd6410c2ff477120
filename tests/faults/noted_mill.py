"""Workers within the test's own process, where a constant of theirs can be made shorter than any setting makes it.

Their handlers write the ledger all the same, and every invariant is asked that needs no API.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import generate_latest
from sqlalchemy import text

from jobs.context import Context
from jobs.registry import job
from models.database import Database
from models.job import Ref
from tests.acceptance.installation import Full
from tests.acceptance.ledger import Ledger, note
from tests.factories import TENANT
from tests.faults.evidence import Evidence, Usage, events, rows, settle, told, usage_of
from tests.faults.invariants import RECOVERY_SECONDS, quiet_evidence
from tests.integration.test_drain import THREADS, Mill
from tests.workbench import Behaviour, Told, do, types
from workers.child import WorkerProcess

HERE = "the test's process"


@job("fault.told", into=types)
def do_noted(args: Told, context: Context) -> Any:
    """As `test.do`, under a name of which the invariants expect entries in the ledger."""
    return do(args, context)


class NotedMill(Mill):
    """What it publishes writes the ledger. `brokers` are all ways to RabbitMQ that are used."""

    mode = Full.mode  # its tables are PostgreSQL's

    def __init__(
        self, database: Database, eventually: Callable[..., Any], ledger: Ledger, brokers: Sequence[str]
    ) -> None:
        super().__init__(database, eventually)
        self.ledger = ledger
        self.settings = {"DATABASE_URL": f"postgresql://:{_port_of(database)}", "RABBITMQ_URL": ",".join(brokers)}
        self.submitted: list[str] = []
        self.at_rest: dict[str, Usage] = {}
        self._of_others = {row.id for row in rows(self)}

    def worker(self, threads: int = THREADS, queues: tuple[str, ...] = ("default",)) -> WorkerProcess:
        """A worker more; what is held once it is there is what may be held in the end."""
        process = super().worker(threads, queues)
        self.at_rest = self._usage()
        return process

    def publish(self, how_many: int, behave: Behaviour | None = None, **columns: Any) -> list[Ref]:
        """Jobs that no attempt was made at before."""
        refs = super().publish(how_many, self._noted(behave or self.wait), type="fault.told", attempt=0, **columns)
        self.submitted += [str(ref.id) for ref in refs]
        return refs

    def sql(self, statement: str) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(text(statement)).all())

    def check(self, *, faults: int) -> Evidence:
        """Wait until all is quiet, look everywhere, and fail with every complaint, as `invariants.check` does."""
        lifted_at = time.monotonic()
        settled = settle(self, [{"id": job_id} for job_id in self.submitted], lifted_at, RECOVERY_SECONDS)
        known, found = quiet_evidence(lambda: self._evidence(faults, settled))
        assert not found, "\n".join(found)
        return known

    def _noted(self, behave: Behaviour) -> Behaviour:
        def noted(context: Context) -> dict[str, int]:
            note(self.ledger.path, "start", context)
            behave(context)
            note(self.ledger.path, "end", context)
            return {"attempt": context.attempt, "lease": context.lease}

        return noted

    def _evidence(self, faults: int, settled: float | None) -> Evidence:
        """Neither logs nor answers: there is no API, and no secret was given to anybody."""
        return Evidence(
            submitted=self.submitted,
            accepted=frozenset(self.submitted) | self._of_others,
            tenant=str(self.sql(f"SELECT id FROM tenants WHERE name = '{TENANT}'")[0][0]),  # noqa: S608 - our own
            rows={row.id: row for row in rows(self)},
            events=events(self),
            told=told(self),
            entries=self.ledger.everything(),
            pages={HERE: generate_latest().decode()},
            live_actors=frozenset(f"worker:{process.id}" for process in self.workers),
            live_pids=frozenset([os.getpid()]),
            before=self.at_rest,
            after=self._usage(),
            faults=faults,
            settled_after=settled,
            within=RECOVERY_SECONDS,
        )

    def _usage(self) -> dict[str, Usage]:
        return {HERE: usage_of(self, [os.getpid()])}


def _port_of(database: Database) -> int:
    with database.reading() as session:
        port: int = session.connection().connection.driver_connection.info.port
        return port
