"""The counters of the truth: what went wrong with the database, and how long it kept us waiting."""

from prometheus_client import Counter, Histogram

errors = Counter("jobmill_database_errors_total", "Steps that met an error of the database, by its kind", ["kind"])
retries = Counter("jobmill_database_retries_total", "Steps that were done again after an error of the database")
losses = Counter("jobmill_database_losses_total", "Times that the database fell silent for the API")
connection_wait = Histogram(
    "jobmill_database_connection_wait_seconds",
    "Time until a connection was free, or made, or not to be had",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5),
)
lost_answers = Counter(
    "jobmill_lost_answers_total", "Commits whose answer was lost and that a second look found done, by step", ["step"]
)
