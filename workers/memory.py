"""Whether the system killed a process of ours for lack of memory: the count that its control group keeps."""

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def out_of_memory_kills(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> int | None:
    """How many processes of this control group were killed so; None where that cannot be known."""
    for file in _counters(membership, mount):
        try:
            lines = dict(line.split(maxsplit=1) for line in file.read_text().splitlines() if " " in line)
            return int(lines["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return None


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
