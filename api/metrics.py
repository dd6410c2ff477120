"""What the API counts of itself."""

from prometheus_client import Histogram

request_seconds = Histogram(
    "jobmill_request_seconds",
    "Time to answer a request, by method, route and status",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15),
)
