"""A mixture of jobs, as an installation gets them: most end at once, some wait for something, fail once, or pay."""

from typing import Any

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger
from tests.faults.load import Load

KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    *[("fault.quick", {})] * 5,
    *[("fault.sleep", {"seconds": 0.2})] * 2,
    ("fault.fail", {"times": 1}),
    *[("fault.pay", {"times": 0})] * 2,
)
"""Each as often as it stands here."""


def mixed(installation: Installation, ledger: Ledger, *, rate: float, threads: int) -> Load:
    """A steady load of all kinds."""

    def args_of(number: int) -> dict[str, Any]:
        return ledger.args | KINDS[number % len(KINDS)][1]

    return Load(installation, lambda number: KINDS[number % len(KINDS)][0], args_of, rate=rate, threads=threads)
