"""A start imports without looking for garbage, and leaves the collector as it was."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cli.starting import importing

COUNTED = """
import gc
from cli.main import COMMANDS
collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase))
COMMANDS["worker"].load()
gc.callbacks.clear()
print(len(collections), gc.isenabled(), gc.get_freeze_count())
"""

HEAPS = """
import ctypes, sys, threading
from cli.starting import keep_one_heap
if sys.argv[1] == "one":
    keep_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(4)

def take():
    together.wait()
    for _ in range(1000):
        libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()


def test_a_command_is_imported_without_one_collection_and_what_it_imported_is_looked_at_by_none():
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, timeout=60, check=True)
    collections, enabled, kept = done.stdout.split()
    assert (collections, enabled) == ("0", "True")
    assert int(kept) > 10_000


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), importing():
        from cli import no_such_module  # noqa: F401
    assert gc.isenabled()


def test_one_import_within_another_does_not_end_it():
    with importing():
        with importing():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have no heaps to count")
def test_all_threads_take_their_memory_from_one_heap_unless_somebody_set_how_many(monkeypatch: pytest.MonkeyPatch):
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert (_heaps("one"), _heaps("as it comes") > 1) == (1, True)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=3")
    assert 1 < _heaps("one") <= 3
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert _heaps("one") == 2


def _heaps(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.count("<heap nr=")
