"""`make bench`: one run over a full installation on this machine, with plain Dramatiq beside it."""

import os
import platform
import signal
import subprocess
import sys

from bench import batch, choices, churn, comparison, dead_letters, economy, explain, growth, load, scenarios, webhooks
from bench.doors import cost_of_doors
from bench.installation import installation


def main() -> None:
    """Measure and print one table."""
    database_url = os.environ["JOBMILL_TEST_DATABASE_URL"]
    rabbitmq_url = os.environ["JOBMILL_TEST_RABBITMQ_URL"]
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    figures: dict[str, float] = {}
    with installation(database_url, rabbitmq_url) as running:
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
        _show(figures, cost_of_doors(running, os.environ["JOBMILL_TEST_REDIS_URL"]))
    enqueued, drained = _plain_dramatiq(rabbitmq_url)
    _show(figures, {"plain Dramatiq enqueued per second": enqueued, "plain Dramatiq jobs per second": drained})
    _show(figures, {"drain against plain Dramatiq, ratio": figures["jobs per second"] / drained})
    _show(figures, {"submissions against its enqueue, ratio": figures["submissions per second"] / enqueued})


def _show(figures: dict[str, float], found: dict[str, float]) -> None:
    figures.update(found)
    for name, value in found.items():
        print(f"{name:<42} {value:>10,.2f}", flush=True)


def _plain_dramatiq(url: str) -> tuple[float, float]:
    """In a process of its own, as its users run it."""
    command = [sys.executable, "-m", "bench.plain_dramatiq", url, str(scenarios.DRAINED)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    enqueued, drained = output.split()
    return float(enqueued), float(drained)


def chosen(name: str = "", *more: str) -> None:
    """Run what `ARGS` names, with its own options after it."""
    others = {
        "batch": lambda: batch.batch(more),
        "beside-long": lambda: load.beside_long(more),
        "busy": load.busy,
        "choices": lambda: choices.choices(more),
        "churn": churn.churn,
        "cost": economy.cost,
        "dead-letters": dead_letters.main,
        "explain": explain.main,
        "fan-in": lambda: load.fan_in(more),
        "growth": lambda: growth.growth(more),
        "idle": economy.idle,
        "peers": lambda: comparison.main(more),
        "prune": churn.prune,
        "under-load": lambda: load.under_load(more),
        "webhooks": webhooks.main,
    }
    names = f"ARGS may be nothing, or: {', '.join(others)}"
    if name in ("-h", "--help"):
        sys.exit(names)
    if name and name not in others:
        sys.exit(f"There is no benchmark {name!r}. {names}")
    others.get(name, main)()


def _leave(number: int, _frame: object) -> None:
    """End as by an exception, so that databases, queues and processes of the run go too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    chosen(*sys.argv[1:])
