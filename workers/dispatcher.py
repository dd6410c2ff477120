"""The dispatcher: its duties put together, run until it is stopped."""

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta

from models import worker
from models.database import Database
from models.errors import Unavailable
from models.ids import new_id
from models.states import State
from workers.archive import Archive
from workers.dead_queues import DeadQueuesDoor
from workers.duties.claiming import GATE_WIDTH
from workers.duties.collect import Collect
from workers.duties.dispatch import Dispatch
from workers.duties.leadership import Leadership
from workers.duties.prune import Prune
from workers.duties.reconcile import Reconcile
from workers.duties.rescue import Rescue
from workers.loop import Duty, Loop
from workers.transport import Transport


def served_queues(database: Database, configured: Iterable[str]) -> list[str]:
    """The queues that a dispatcher will publish to as far as is known now: the configured and those of live workers."""
    with database.reading() as session:
        return sorted({*configured, *worker.capacities(session)})


class Dispatcher:
    """Runs the duties. `wake` is set whenever a job may have become due; polling finds it anyway.

    `alone` says that every worker is in this process. `dead_queues` leads to the broker's own dead letters, if it has
    any, which are collected of the `configured` queues and of all that a worker serves. Letters go to the `archive`, if
    there is one, before they go. Of the jobs of one gate `gate_width` are handed out at once.
    """

    def __init__(  # noqa: PLR0913 - what it is put together of, each with a default
        self,
        database: Database,
        transport: Transport,
        retention: Mapping[State, timedelta],
        wake: threading.Event,
        *,
        alone: bool = False,
        dead_queues: DeadQueuesDoor | None = None,
        configured: Iterable[str] = (),
        archive: Archive | None = None,
        gate_width: int = GATE_WIDTH,
    ) -> None:
        self.leadership = Leadership(database, new_id(), wake)
        dispatch = Dispatch(database, transport, self.leadership, gate_width)
        duties: list[Duty] = [
            self.leadership,
            dispatch,
            Rescue(database, self.leadership, alone=alone),
            Reconcile(database, transport, self.leadership, dispatch.sizes),
            Prune(database, self.leadership, retention, archive),
        ]
        if dead_queues is not None:
            duties.append(Collect(database, transport, self.leadership, dead_queues, configured))
        self.loop = Loop(duties, {Dispatch.name: wake})

    def start(self) -> None:
        """Begin."""
        self.loop.start()

    def stop(self, timeout: float) -> None:
        """Finish the steps begun, and let a standby take over."""
        self.loop.stop(timeout)
        with suppress(Unavailable):  # then the lease runs out by itself
            self.leadership.resign()
