"""Requests made of the API's own description, right and wrong ones, of every operation, held against what it promises.

Bounded and seeded here, and in CI against the embedded mode only, whose doors are the same; `make fuzz` takes its time,
and goes through every border of every schema too (the phase `coverage`).
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from setting_forms import DEFAULT_RATE_LIMITS
from tests.acceptance.installation import Embedded, Full
from tests.acceptance.installer import Installer

EXAMPLES = os.environ.get("JOBMILL_TEST_FUZZ_EXAMPLES", "4")
PHASES = os.environ.get("JOBMILL_TEST_FUZZ_PHASES", "examples,fuzzing,stateful")
SEED = os.environ.get("JOBMILL_TEST_FUZZ_SEED", "1")
HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).parent / "st"


@pytest.mark.parametrize("mode", [Embedded.mode, pytest.param(Full.mode, marks=pytest.mark.long)])
@pytest.mark.timeout(7200 if "JOBMILL_TEST_FUZZ_EXAMPLES" in os.environ else 240)
def test_no_request_gets_an_answer_that_the_description_does_not_tell_of(
    mode: str, request: pytest.FixtureRequest, tmp_path: Path
):
    with ExitStack() as stack:
        # Many of the requests are wrong on purpose, and far too many for one address.
        unlimited = ",".join(f"{name}=none" for name in DEFAULT_RATE_LIMITS)
        installation = Installer(request, stack)(mode, JOBMILL_RATE_LIMITS=unlimited)
        command = [SCHEMATHESIS, "--no-color", "run", f"{installation.address}/openapi.json"]
        options = {
            "--header": f"Authorization: Bearer {installation.key}",
            "--checks": "all",
            "--max-examples": EXAMPLES,
            "--seed": SEED,
            "--generation-allow-x00": "false",  # no text of a request may hold NUL, which a schema can hardly say
            "--generation-database": "none",
            "--phases": PHASES,
        }
        done = subprocess.run(
            [*command, "--continue-on-failure", *(word for option in options.items() for word in option)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "fuzz_hooks"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert installation.client.get("/readyz").status_code == 200
