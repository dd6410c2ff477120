"""The counters of what jobs mean: how webhooks are received."""

from prometheus_client import Counter, Histogram

webhook_attempts = Counter(
    "jobmill_webhook_attempts_total",
    "Requests to receivers of webhooks, by what came of them: `success`, `failure` for any other answer, `silence` for "
    "none. `jobmill webhooks deliveries` tells which receivers",
    ["sign"],
)
webhook_seconds = Histogram(
    "jobmill_webhook_seconds",
    "How long such a request took. Near 15 s, a receiver does its work before it answers; better record it and answer",
    buckets=(0.05, 0.2, 1, 5, 15),
)
webhook_endpoints_disabled = Counter(
    "jobmill_webhook_endpoints_disabled_total",
    "Endpoints that were disabled for answering 410 or for failing for days. The audit log says which, and why",
)
