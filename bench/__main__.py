"""`make bench`: one run over a full installation on this machine, with plain Dramatiq beside it."""

import os
import platform
import signal
import subprocess
import sys

from bench import (
    batch,
    choices,
    churn,
    comparison,
    dead_letters,
    economy,
    explain,
    growth,
    load,
    rounds,
    scenarios,
    webhooks,
)
from bench.doors import cost_of_doors
from bench.installation import of_its_own
from bench.machine import services
from bench.surroundings import surroundings

LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Measure and print one table."""
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    figures: dict[str, float] = {}
    with of_its_own() as running:
        for scenario in (
            scenarios.low_load,
            scenarios.submissions,
            scenarios.drain,
            scenarios.shared_drain,
            scenarios.reads,
            scenarios.batches,
        ):
            _show(figures, scenario(running))
        _show(figures, {f"peak memory {name} MB": peak for name, peak in running.peak_megabytes().items()})
        _show(figures, cost_of_doors(running, services()["redis"]))
    enqueued, drained = _plain_dramatiq()
    _show(figures, {"plain Dramatiq enqueued per second": enqueued, "plain Dramatiq jobs per second": drained})
    _show(figures, {"drain against plain Dramatiq, ratio": figures["jobs per second"] / drained})
    _show(figures, {"submissions against its enqueue, ratio": figures["submissions per second"] / enqueued})


def _show(figures: dict[str, float], found: dict[str, float]) -> None:
    figures.update(found)
    for name, value in found.items():
        print(f"{name:<42} {value:>10,.2f}", flush=True)


def _plain_dramatiq() -> tuple[float, float]:
    """In a process of its own, as its users run it."""
    command = [sys.executable, "-m", "bench.plain_dramatiq", str(scenarios.DRAINED)]
    with surroundings(services()) as environment:
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300, env=environment)
    enqueued, drained = told.stdout.split()
    return float(enqueued), float(drained)


def chosen(name: str = "", *more: str) -> None:
    """Run what `ARGS` names, with its own options after it."""
    names = f"ARGS may be nothing, or: {', '.join(sorted({*PLAIN, *WITH_OPTIONS} - {''}))}"
    if name in ("-h", "--help"):
        print(names)
    elif name in WITH_OPTIONS:
        WITH_OPTIONS[name](more)
    elif name not in PLAIN:
        sys.exit(f"There is no benchmark {name!r}. {names}")
    elif more:
        sys.exit(f"{name} takes no options, and these were given: {' '.join(more)}")
    else:
        PLAIN[name]()


PLAIN = {
    "": main,
    "busy": load.busy,
    "churn": churn.churn,
    "cost": economy.cost,
    "dead-letters": dead_letters.main,
    "explain": explain.main,
    "idle": economy.idle,
    "prune": churn.prune,
}
WITH_OPTIONS = {
    "batch": batch.batch,
    "beside-long": load.beside_long,
    "choices": choices.choices,
    "fan-in": load.fan_in,
    "growth": growth.growth,
    "peers": comparison.main,
    "under-load": load.under_load,
    "webhooks": webhooks.webhooks,
}


def _leave(number: int, _frame: object) -> None:
    """End as by an exception, so that databases, queues and processes of the run go too, and nobody hurries that."""
    rounds.leaving.set()
    for each in LEAVING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in LEAVING:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(each, _leave)
    chosen(*sys.argv[1:])
