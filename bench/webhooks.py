"""`make bench ARGS=webhooks`: what it costs a drain that somebody listens, and how fast one receiver is told.

The drain of `make bench` with no endpoint, with one that asks for other events, and with one that is told of every job.
The receiver answers 204 from this process.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

from bench.installation import Installation, of_its_own
from bench.rounds import Way, prepare
from bench.scenarios import DRAINED, drained, tidy, when

SETTINGS = {"JOBMILL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "JOBMILL_WEBHOOK_ALLOW_HTTP": "true"}
_TOLD = """
    SELECT count(*), extract(epoch FROM max(finished_at) - min(created_at))
    FROM jobs WHERE type = 'webhook.deliver' AND state = 'succeeded'
    AND id IN (SELECT id FROM webhook_deliveries WHERE endpoint_id = %s)"""


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def webhooks(arguments: Sequence[str]) -> None:
    """Drains with each kind of endpoint, and how many deliveries a second come of those that are told."""
    benchmark = prepare("webhooks", arguments)
    with of_its_own(SETTINGS) as running, _receiver() as url:
        sample = f"{DRAINED:,} jobs"
        benchmark.compare(
            {
                "nobody listens": Way(sample, lambda: _rate(running)),
                "to other events": Way(sample, lambda: _with_endpoint(running, url, "job.dead")),
                "to these": Way(sample, lambda: _told(running, url)),
            },
            "jobs per second",
            before=lambda: tidy(running),
        )


def _rate(running: Installation) -> dict[str, float]:
    return {"jobs per second": drained(running, ["default"])}


def _with_endpoint(running: Installation, url: str, event: str) -> dict[str, float]:
    with _endpoint(running, url, event):
        return _rate(running)


def _told(running: Installation, url: str) -> dict[str, float]:
    with _endpoint(running, url, "job.succeeded") as endpoint_id:
        found = _rate(running)
        ((_, seconds),) = when(running, _TOLD, lambda rows: rows[0][0] == DRAINED, endpoint_id)
    return {**found, "deliveries per second": DRAINED / float(seconds)}


@contextmanager
def _receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def _endpoint(running: Installation, url: str, event: str) -> Iterator[str]:
    """An endpoint of the tenant `default`, and its id."""
    headers, place = (
        {"Authorization": f"Bearer {running.token}"},
        f"http://127.0.0.1:{running.port}/v1/webhook-endpoints",
    )
    body = {"url": url, "events": [event]}
    made = httpx2.post(place, json=body, headers=headers, trust_env=False).raise_for_status()
    yield str(made.json()["id"])
    httpx2.delete(f"{place}/{made.json()['id']}", headers=headers, trust_env=False).raise_for_status()
