"""The counters of the motion: everything that happens off the straight path counts on one of them."""

from prometheus_client import Counter, Gauge, Histogram

from models.states import Move

moves = Counter("jobmill_moves_total", "Jobs moved, by move", ["move"])
stale = Counter("jobmill_stale_total", "Moves that found their job gone on, by move", ["move"])
duplicates = Counter("jobmill_duplicate_deliveries_total", "Messages for a job that this worker has in hand")
bad_messages = Counter("jobmill_bad_messages_total", "Messages that were not ours, dead-lettered")
stale_acknowledgements = Counter("jobmill_stale_acknowledgements_total", "Acknowledgements after a reconnect, dropped")
early_acknowledgements = Counter(
    "jobmill_early_acknowledgements_total", "Messages acknowledged while still worked on, after ten minutes"
)
given_back = Counter("jobmill_given_back_total", "Messages given back because no thread was free in time, or to drain")
wrong_queues = Counter("jobmill_wrong_queues_total", "Times that a queue was found with other arguments than ours")
unconfirmed = Counter("jobmill_unconfirmed_total", "Messages that the broker did not confirm; their jobs were released")
step_failures = Counter("jobmill_step_failures_total", "Steps of a duty that failed, by duty", ["duty"])
interrupts = Counter("jobmill_interrupts_total", "Handlers interrupted, by reason", ["reason"])
isolated_started = Counter("jobmill_isolated_processes_started_total", "Processes started for isolated handlers")
isolated_crashed = Counter(
    "jobmill_isolated_processes_crashed_total", "Processes of isolated handlers that died at work, by code", ["code"]
)
child_deaths = Counter("jobmill_child_deaths_total", "Processes of a worker that died, by cause", ["cause"])
results_held = Gauge(
    "jobmill_results_held",
    "Jobs that are done, and whose ending waits for the database to be there again",
    multiprocess_mode="livesum",
)
handler_seconds = Histogram(
    "jobmill_handler_seconds",
    "Time inside handlers, by type",
    ["type"],
    buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120, 600, 3600),
)


def count(move: Move, asked: int, moved: int) -> None:
    """So many jobs made a move that was asked of so many; the rest had gone on meanwhile."""
    moves.labels(move).inc(moved)
    stale.labels(move).inc(asked - moved)
