"""Whether the system killed a process of ours for lack of memory: the count that its control group keeps.

Where the group tells nothing, as outside of any, it is the count of the whole system: other processes' deaths are then
among them, and a kill of ours at that very moment would be told as one of memory.
"""

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
SYSTEM = Path("/proc/vmstat")


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
