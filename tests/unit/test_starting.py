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
