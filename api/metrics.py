"""The counters of the doors."""

from prometheus_client import Counter, Histogram

request_seconds = Histogram(
    "jobmill_request_seconds",
    "Requests answered, and how long that took, by method, route and status. 503: see `/readyz`; 500: see the log",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
problems = Counter(
    "jobmill_problems_total",
    "Requests answered by a problem, by its code. `unavailable`: the database was away; `internal-error`: report it",
    ["code"],
)
rate_limited = Counter(
    "jobmill_rate_limited_total",
    "Requests turned away with 429, by class. `guess`: somebody tries credentials; others: see JOBMILL_RATE_LIMITS",
    ["class"],
)
limits_without_redis = Counter(
    "jobmill_limits_without_redis_total",
    "Times that Redis did not answer and requests were counted by this process alone for 5 s. See to Redis",
)
