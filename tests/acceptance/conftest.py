"""Installations for the tests: one that is left whole, and one to break."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.installation import Embedded, Full, Installation
from tests.acceptance.installer import Installer
from tests.acceptance.ledger import Ledger


@pytest.fixture(scope="session", params=[Embedded.mode, Full.mode])
def mode(request: pytest.FixtureRequest) -> str:
    """Everything is promised in both."""
    return request.param


@pytest.fixture(scope="session")
def installation(mode: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """The installation that tests share; leave it as you found it."""
    with ExitStack() as stack:
        yield Installer(request, stack, from_nothing=True)(mode)


@pytest.fixture(scope="session")
def _one_thread(mode: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)(mode, JOBMILL_THREADS="1")


@pytest.fixture
def breakable(_one_thread: Installation) -> Iterator[Installation]:
    """An installation for tests that stop and kill its worker, which does one job at a time. Nothing else is in it."""
    if not _one_thread.worker.alive:
        _one_thread.start_worker()
    yield _one_thread
    _one_thread.worker.settings.pop("JOBMILL_GRACE_SECONDS", None)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Where the handlers of a test's jobs say when they begin and end; its gate is open at the end in any case."""
    made = Ledger(tmp_path)
    yield made
    made.open_gate()


@pytest.fixture
def unique() -> Callable[[], str]:
    """Names that no other test uses in the shared installation."""
    run, numbers = secrets.token_hex(4), count(1)
    return lambda: f"name-{run}-{next(numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show what the processes said when a test fails."""
    report = yield
    if report.failed:
        for used in getattr(item, "funcargs", {}).values():
            if isinstance(used, Installation):
                report.sections.append((f"the {used.mode} installation in {used.folder}", used.logs()))
    return report
