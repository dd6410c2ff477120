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

    `alone` says that every worker is in this process.
    """

    def __init__(
        self,
        database: Database,
        transport: Transport,
        retention: Mapping[State, timedelta],
        wake: threading.Event,
        *,
        alone: bool = False,
    ) -> None:
        self.leadership = Leadership(database, new_id())
        dispatch = Dispatch(database, transport, self.leadership)
        duties: list[Duty] = [
            self.leadership,
            dispatch,
            Rescue(database, self.leadership, alone=alone),
            Reconcile(database, transport, self.leadership, dispatch.sizes),
            Prune(database, self.leadership, retention),
        ]
        self.loop = Loop(duties, {Dispatch.name: wake})

    def start(self) -> None:
        """Begin."""
        self.loop.start()

    def stop(self, timeout: float) -> None:
        """Finish the steps begun, and let a standby take over."""
        self.loop.stop(timeout)
        with suppress(Unavailable):  # then the lease runs out by itself
            self.leadership.resign()
