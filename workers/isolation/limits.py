"""What a job may use of its process: memory and CPU, by the kernel's own limits, set for the job and then lifted."""

import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

MEGABYTE = 1024 * 1024
USUAL_LIMIT_MB = 512

_DATA_PAGES = 5  # in /proc/self/statm, see proc(5)


@contextmanager
def limited(memory_mb: int | None, cpu_seconds: int | None) -> Iterator[None]:
    """Within the block this process may take so much memory on top of what it holds, and compute so long.

    Memory is private writable memory (RLIMIT_DATA): the whole address space (RLIMIT_AS) would count what
    libraries reserve and never touch, which is a multiple of what they use.
    """
    memory = None if memory_mb is None else memory_held() + memory_mb * MEGABYTE
    cpu = None if cpu_seconds is None else math.ceil(_cpu_seconds_used()) + cpu_seconds
    with _soft_limit(resource.RLIMIT_DATA, memory), _soft_limit(resource.RLIMIT_CPU, cpu):
        yield


def memory_held() -> int:
    """Bytes of private writable memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as told:  # noqa: PTH123 - a Path costs more than the read
        return int(told.read().split()[_DATA_PAGES]) * os.sysconf("SC_PAGESIZE")


def most_left_behind(memory_mb: int | None) -> int:
    """Bytes that a job may leave in its process before the process has to go: half of what it was allowed."""
    return (memory_mb or USUAL_LIMIT_MB) * MEGABYTE // 2


def _cpu_seconds_used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _soft_limit(which: int, limit: int | None) -> Iterator[None]:
    if limit is None:
        yield
        return
    before, most = resource.getrlimit(which)
    bounds = [bound for bound in (before, most) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(which, (min([limit, *bounds]), most))
    try:
        yield
    finally:
        resource.setrlimit(which, (before, most))
