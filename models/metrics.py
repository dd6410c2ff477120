"""The counters of the truth: what went wrong with the database, and how long it kept us waiting."""

from prometheus_client import Counter, Histogram

errors = Counter(
    "jobmill_database_errors_total",
    "Steps that met an error of the database, by its kind. `bug` and `value` are ours: report them with the log; "
    "`crowded`: raise max_connections; `full`: make room; `timeout`: look for old transactions in pg_stat_activity",
    ["kind"],
)
retries = Counter(
    "jobmill_database_retries_total",
    "Steps that were done again after an error of the database. As the errors",
)
losses = Counter(
    "jobmill_database_losses_total",
    "Times that the database fell silent for the API. Look at the network and at the server's load",
)
connection_wait = Histogram(
    "jobmill_database_connection_wait_seconds",
    "Time until a connection was free, or made, or not to be had. Above 0.1 s: more API processes with fewer threads, "
    "or handlers that hold `context.session` for too long",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5),
)
lost_answers = Counter(
    "jobmill_lost_answers_total",
    "Commits whose answer was lost and that a second look found done, by step. Nothing was done twice; look for what "
    "breaks connections",
    ["step"],
)
