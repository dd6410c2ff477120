"""The counters of the motion: everything that happens off the straight path counts on one of them."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from models.states import Move

moves = Counter(
    "jobmill_moves_total",
    "Jobs moved, by move. Watch `rescue`, `bury` and `release`: workers die, jobs fail, messages get lost",
    ["move"],
)
stale = Counter(
    "jobmill_stale_total",
    "Moves that found their job gone on, by move. A few after each fault are the guards at work; many say that "
    "workers freeze for longer than 20 s",
    ["move"],
)
duplicates = Counter(
    "jobmill_duplicate_deliveries_total",
    "Messages for a job that this worker has in hand. Harmless; many say that connections to RabbitMQ break",
)
bad_messages = Counter(
    "jobmill_bad_messages_total",
    "Messages that were not ours, dead-lettered. Find out who publishes to our queues",
)
collected = Counter(
    "jobmill_collected_total",
    "Messages taken from RabbitMQ's dead letters, by what became of them. `undeliverable`: see `jobmill undeliverable "
    "list`; `released` and `stale`, of living jobs: workers die again and again before they start a job; `again`: the "
    "dispatcher died while it collected, and nothing is kept twice",
    ["outcome"],
)
undeliverable_forgotten = Counter(
    "jobmill_undeliverable_forgotten_total",
    "Undeliverable messages deleted for newer ones of the same queue and reason. Find out who publishes so many",
)
stale_acknowledgements = Counter(
    "jobmill_stale_acknowledgements_total",
    "Acknowledgements after a reconnect, dropped. Harmless; many say that connections to RabbitMQ break",
)
early_acknowledgements = Counter(
    "jobmill_early_acknowledgements_total",
    "Messages acknowledged while still worked on, after ten minutes. As many as there are such long jobs",
)
given_back = Counter(
    "jobmill_given_back_total",
    "Messages given back because no thread was free in time, or to drain. Many: give slow jobs a queue of their own",
)
wrong_queues = Counter(
    "jobmill_wrong_queues_total",
    "Times that a queue was found with other arguments than ours. The log names it; run `jobmill queues migrate`",
)
deaf_consumers = Counter(
    "jobmill_deaf_consumers_total",
    "Consumers made anew because RabbitMQ had messages for them and delivered none. Was a queue deleted under load?",
)
unconfirmed = Counter(
    "jobmill_unconfirmed_total",
    "Messages that the broker did not confirm; their jobs were released. See whether RabbitMQ is up, blocked or full",
)
step_failures = Counter(
    "jobmill_step_failures_total",
    "Steps of a duty that failed, by duty. It is tried again; the log says why it failed (`duty_failed`)",
    ["duty"],
)
interrupts = Counter(
    "jobmill_interrupts_total",
    "Handlers interrupted, by reason. `TimedOut`: give the type more time, or mend it; `LeaseLost`: as stale moves",
    ["reason"],
)
isolated_started = Counter(
    "jobmill_isolated_processes_started_total",
    "Processes started for isolated handlers",
)
isolated_crashed = Counter(
    "jobmill_isolated_processes_crashed_total",
    "Processes of isolated handlers that died at work, by code. Look for what the handler does, or give it more memory",
    ["code"],
)
child_deaths = Counter(
    "jobmill_child_deaths_total",
    "Processes of a worker that died, by cause. `oom`: fewer threads or more memory; `overdue`, `silent`, signals: "
    "find the handler in the log, and isolate its type",
    ["cause"],
)
archived = Counter(
    "jobmill_archived_letters_total",
    "Letters written to JOBMILL_ARCHIVE_DIR before they were pruned. A few more than were pruned after a crash",
)
archive_failures = Counter(
    "jobmill_archive_failures_total",
    "Batches of letters that could not be written to JOBMILL_ARCHIVE_DIR. They are kept, and tried again each minute: "
    "make room, or mount the disk; the log says why (`archive_failed`)",
)
results_held = Gauge(
    "jobmill_results_held",
    "Jobs that are done, and whose ending is not recorded yet. For longer than a moment: the database is away; leave "
    "the workers running, they record everything when it is back",
    multiprocess_mode="livesum",
)
handler_seconds = Histogram(
    "jobmill_handler_seconds",
    "Time inside handlers, by type",
    ["type"],
    buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120, 600, 3600),
)
handler_seconds_of = cache(handler_seconds.labels)
"""The series of a job type: looking it up was a twentieth of what a short job cost."""


def count(move: Move, asked: int, moved: int) -> None:
    """So many jobs made a move that was asked of so many; the rest had gone on meanwhile."""
    moves.labels(move).inc(moved)
    stale.labels(move).inc(asked - moved)
