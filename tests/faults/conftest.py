"""Installations whose handlers misbehave on request, and a ledger for each test."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.acceptance.conftest import ledger, pytest_runtest_makereport
from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer
from tests.faults.at_rest import warm_up

HERE = Path(__file__).parent
Install = Callable[..., Installation]
PAYMENTS = "CREATE TABLE fault_payments (job_id text, attempt integer, lease bigint)"
"""Where `fault.pay` writes. No constraint hides a second payment."""

__all__ = ["ledger", "pytest_runtest_makereport"]


@pytest.fixture(scope="module")
def install(request: pytest.FixtureRequest) -> Iterator[Install]:
    """`install(mode, **settings)`: an installation that ends with the module; of each mode, the first is kept."""
    kept: dict[str, Installation] = {}
    with ExitStack() as stack:

        def made(mode: str, **settings: str) -> Installation:
            if mode not in kept or settings:
                new = Installer(request, stack)(mode, **fault_settings() | settings)
                new.sql(PAYMENTS)
                warm_up(new)
                kept.setdefault(mode, new)
                return new
            return kept[mode]

        yield made


def fault_settings() -> dict[str, str]:
    """What an installation is told so that it knows the job types of `fault_jobs`, and has a secret to keep.

    And what stands in the file that JOBMILL_TEST_SETTINGS names.
    """
    file = os.environ.get("JOBMILL_TEST_SETTINGS")
    return {name: value or "" for name, value in (dotenv_values(file) if file else {}).items()} | {
        "PYTHONPATH": f"{HERE}:{HERE.parent / 'acceptance'}",
        "JOBMILL_JOBS": "fault_jobs",
        "JOBMILL_SECRET_KEY": secrets.token_hex(32),
        "JOBMILL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "JOBMILL_WEBHOOK_ALLOW_HTTP": "true",
    }
