"""What an installation holds at rest, once it has held all that it ever may: what comes on top later is a leak."""

from pathlib import Path
from tempfile import mkdtemp

from tests.acceptance.installation import Installation
from tests.acceptance.ledger import Ledger
from tests.faults.evidence import usage
from tests.faults.load import Load

THREADS = 8  # as JOBMILL_THREADS is by default
WARMING = 32
LIVE_WITHIN = 40


def complete(installation: Installation, processes: int) -> Installation:
    """Wait until all of a worker's processes take jobs, and let each of them hold what it may."""
    installation.eventually(lambda: len(installation.child_pids()) == processes, LIVE_WITHIN)
    warm_up(installation, processes)
    return installation


def warm_up(installation: Installation, processes: int = 1) -> None:
    """Keep every thread busy at once, so that pools are as full as they get, and note what is held then."""
    ledger = Ledger(Path(mkdtemp(prefix="warm-", dir=installation.folder)))
    with Load(installation, "fault.gated", ledger.gated_args, rate=1000, threads=WARMING, most=WARMING) as load:
        threads = processes * int(installation.settings.get("JOBMILL_THREADS", THREADS))
        installation.eventually(lambda: len(ledger.starts()) >= min(threads, WARMING))
        load.wait()
    ledger.open_gate()
    for job in load.accepted:
        installation.succeeded(job)
    installation.at_rest = usage(installation)
