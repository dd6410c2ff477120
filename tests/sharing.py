"""Which tests go to one process because they share an installation: starting it costs more than most of them.

pytest ends the installation of one mode when a test wants the other's, so that file by file each would start both anew.
"""

import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

FOLDER = "tests/acceptance/"
SHARING = {
    "test_cancelling.py",
    "test_client.py",
    "test_command.py",
    "test_draining.py",
    "test_explain.py",
    "test_once_only.py",
    "test_own_job_types.py",
    "test_time_and_order.py",
    "test_way_of_a_job.py",
    "test_worker_death.py",
}
"""Files whose tests use `installation` or `breakable`; a unit test holds this against them."""
_MODE = re.compile(r"[\[-](embedded|full)[\]-]")


class BySharing(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Gives a process all that share the installations of one mode, and of everything else a whole file."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        mode = _MODE.search(test)
        shares = file.startswith(FOLDER) and file.removeprefix(FOLDER) in SHARING
        return mode[1] if mode and shares else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist loadfile`."""
    return BySharing(config, log) if config.getoption("dist") == "loadfile" else None
