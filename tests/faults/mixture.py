"""A mixture of jobs, as an installation gets them: most end at once, some wait for something, fail once, or pay."""

from collections.abc import Sequence
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


TOLD_OF = ["job.succeeded", "job.dead"]
BETWEEN_TOLD = 7
"""Of every so many jobs one has somebody told; with the ten kinds that comes to each kind in turn."""


def mixed(
    installation: Installation,
    ledger: Ledger,
    *,
    rate: float,
    threads: int,
    receiver: str | None = None,
    sizes: Sequence[int] = (1,),
) -> Load:
    """A steady load of all kinds, in requests of those `sizes`; a `receiver` is told of the ends of some of them."""

    def args_of(number: int) -> dict[str, Any]:
        return ledger.args | KINDS[number % len(KINDS)][1]

    def more(number: int) -> dict[str, Any]:
        told = receiver is not None and number % BETWEEN_TOLD == 0
        return {"webhook": {"url": receiver, "events": TOLD_OF}} if told else {}

    def type_of(number: int) -> str:
        return KINDS[number % len(KINDS)][0]

    return Load(installation, type_of, args_of, rate=rate, threads=threads, more=more, sizes=sizes)
