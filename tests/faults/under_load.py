"""A fault in the middle of a steady load, and what the handlers' ledger says of the pace before it and after."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import httpx2

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Entry, Ledger
from tests.faults import figures
from tests.faults.crashing import family
from tests.faults.health import HealthWatch, Outage
from tests.faults.invariants import HEALTH_LAG_SECONDS, RECOVERY_SECONDS, check
from tests.faults.load import Load

RATE = 40.0
"""Jobs a second: more than anybody waits for here, and less than the machine of a small CI can do."""
WINDOW_SECONDS = 3.0
BACK_TO = 0.95
AT_ONCE_SECONDS = 1.0
SETTLING_SECONDS = 30


class Trial:
    """One fault: the load while it lasts, and the moments that count. `lifted_at` is set when the fault has ended."""

    def __init__(
        self, installation: Installation, ledger: Ledger, load: Load, watch: HealthWatch, window: float
    ) -> None:
        self.installation, self.ledger, self.load, self.watch = installation, ledger, load, watch
        self._window = window
        self.outages: list[Outage] = []
        self.lifted_at = 0.0
        self.pace_before = 0.0
        self.pace_after = 0.0
        self.all_done_after = 0.0

    @contextmanager
    def away(self, dependency: str) -> Iterator[None]:
        """The dependency is away while the block lasts, which is long enough for /readyz to have to say so."""
        since = time.monotonic()
        yield
        self.installation.eventually(lambda: self.watch.was_told_since(since + HEALTH_LAG_SECONDS))
        self.outages.append(Outage(dependency, since, time.monotonic()))

    def submit_until(self, how_many: int, within_seconds: float = 10) -> None:
        """Wait until so many jobs more have been accepted."""
        accepted = len(self.load.accepted)
        self.installation.eventually(lambda: len(self.load.accepted) >= accepted + how_many, within_seconds)

    def starts_since(self, moment: float) -> list[Entry]:
        """The handlers that began after it."""
        return [entry for entry in self.ledger.starts() if entry.at > moment]

    def settle_in(self) -> None:
        """Let the load run until its pace is steady, and remember it."""
        self.installation.eventually(lambda: self._pace_since(0.0) >= 0.9 * RATE, SETTLING_SECONDS, 0.1)
        self.pace_before = self._pace_since(0.0)

    def recover(self) -> None:
        """Wait until all that was accepted is done, before the fault's end and since, and the pace is what it was."""
        left = {job["id"] for job in list(self.load.accepted)}
        deadline = self.lifted_at + RECOVERY_SECONDS
        self.installation.eventually(lambda: left <= self._ended(), deadline - time.monotonic(), 0.1)
        done_at = max(entry.at for entry in self.ledger.ends() if entry.job_id in left)
        self.all_done_after = max(0.0, done_at - self.lifted_at)
        self.installation.eventually(lambda: self._backlog() <= RATE / 2, deadline - time.monotonic(), 0.1)
        since, enough = time.monotonic(), BACK_TO * self.pace_before
        self.installation.eventually(lambda: self._pace_since(since) >= enough, deadline - time.monotonic(), 0.1)
        self.pace_after = self._pace_since(since)

    def keep(self, fault: str) -> None:
        """Keep the figures."""
        first = min(entry.at for entry in self.ledger.starts() if entry.at > self.lifted_at)
        figures.keep(fault, "from its end to the first start", first - self.lifted_at, "s")
        figures.keep(fault, "from its end until all was done", self.all_done_after, "s")
        figures.keep(fault, "pace before", self.pace_before, "jobs/s")
        figures.keep(fault, "pace after", self.pace_after, "jobs/s")

    def _ended(self) -> set[str]:
        return {entry.job_id for entry in self.ledger.ends()}

    def _backlog(self) -> int:
        return len({job["id"] for job in list(self.load.accepted)} - self._ended())

    def _pace_since(self, since: float) -> float:
        """Jobs ended a second over the last seconds; 0 while some of those lie before `since`."""
        until = time.monotonic()
        begin = until - self._window
        ends = [entry.at for entry in self.ledger.ends()]
        if begin < max(since, min(ends, default=until)):
            return 0.0
        return sum(begin < at <= until for at in ends) / self._window


def keeps_up(ledger: Ledger, load: Load, since: float, until: float = inf) -> bool:
    """Whether jobs accepted between then, whatever load there was, were begun as fast: nearly all within a second."""
    begun = {entry.job_id: entry.at for entry in reversed(ledger.starts())}
    accepted = [answered for answered in list(load.answered) if since < answered.at <= until]
    soon = sum(begun.get(answered.job_id, inf) - answered.at < AT_ONCE_SECONDS for answered in accepted)
    return bool(accepted) and soon >= BACK_TO * len(accepted)


@contextmanager
def under_load(
    installation: Installation,
    ledger: Ledger,
    fault: str,
    *,
    rate: float = RATE,
    repeats: int = 0,
    window: float = WINDOW_SECONDS,
) -> Iterator[Trial]:
    """Provoke and lift a fault in the block: the load is steady before it, and must be as quick soon afterwards.

    The pace is that of so many seconds: the shorter the `window`, the sooner it is known, and the less surely.
    Every invariant is looked at in the end; `repeats` is how often the fault may have made a handler run again. No
    process may have been replaced.
    """
    pids = {name: family(process) for name, process in installation.processes.items()}
    with HealthWatch(installation.address) as watch, Load(installation, "fault.quick", ledger.args, rate=rate) as load:
        trial = Trial(installation, ledger, load, watch, window)
        trial.settle_in()
        yield trial
        trial.lifted_at = time.monotonic()
        trial.recover()
    check(
        installation,
        ledger,
        load.accepted,
        lifted_at=trial.lifted_at,
        faults=repeats,
        watch=watch,
        outages=trial.outages,
    )
    assert {name: family(process) for name, process in installation.processes.items()} == pids
    assert {sample.alive for sample in watch.samples} == {httpx2.codes.OK}  # since the API was there all the time
    trial.keep(fault)
