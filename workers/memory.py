"""Whether the system killed a process of ours for lack of memory: the count that its control group keeps.

The group is that of the whole service, and where it tells nothing, as outside of any, the count is the whole system's:
a kill of ours within a second or two of another process's death would be told as one of memory; of a handler in a
process of its own, one in the same attempt.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
SYSTEM = Path("/proc/vmstat")
LATELY_SECONDS = 1.0


def out_of_memory_kills(membership: Path = MEMBERSHIP, mount: Path = MOUNT, system: Path = SYSTEM) -> int | None:
    """How many processes of this control group were killed so; None where that cannot be known."""
    for file in (*_counters(membership, mount), system):
        try:
            lines = dict(line.split(maxsplit=1) for line in file.read_text().splitlines() if " " in line)
            return int(lines["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return None


def killed_since(before: int | None, now: int | None) -> bool:
    """Whether there were any between two counts, as far as is known."""
    return before is not None and now is not None and now > before


class MemoryKills:
    """Counts them as time goes by, since only those of the last moments tell of what has just died."""

    def __init__(
        self, count: Callable[[], int | None] = out_of_memory_kills, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._clock = clock
        self._before = self._latest = count()
        self._counted_at = clock()

    def look(self) -> None:
        """Note how many there are by now; to be called several times a second."""
        now = self._clock()
        if now - self._counted_at >= LATELY_SECONDS:
            self._before, self._latest, self._counted_at = self._latest, self._count(), now

    def any_lately(self) -> bool:
        """Whether there were any within the last second or two, and since this was last asked, as far as is known."""
        before = self._before
        self._before = self._latest = self._count()
        return killed_since(before, self._latest)


def _counters(membership: Path, mount: Path) -> Iterator[Path]:
    """Where the count may stand, by version 2 or 1; inside a container the group's own files are at the mount."""
    try:
        groups = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if controllers == "":
            yield mount / path.lstrip("/") / "memory.events"
            yield mount / "memory.events"
        elif "memory" in controllers.split(","):
            yield mount / "memory" / path.lstrip("/") / "memory.oom_control"
            yield mount / "memory" / "memory.oom_control"
