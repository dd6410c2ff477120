"""`make bench ARGS=webhooks`: what it costs a drain that somebody listens, and how fast one receiver is told.

The drain of `make bench` with no endpoint, with one that asks for other events, and with one that is told of every job,
in turn, in three rounds, since the hour makes a difference of its own. The receiver answers 204 from this process.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

import httpx2

from bench.installation import Installation, installation
from bench.scenarios import DRAINED, drained, when

ROUNDS = 3
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


def main() -> None:
    """Drain, and print the medians."""
    urls = os.environ["JOBMILL_TEST_DATABASE_URL"], os.environ["JOBMILL_TEST_RABBITMQ_URL"]
    found: dict[str, list[float]] = {"nobody listens": [], "to other events": [], "to these": [], "deliveries": []}
    with installation(*urls, settings=SETTINGS) as running, _receiver() as url:
        for _ in range(ROUNDS):
            found["nobody listens"].append(drained(running, ["default"]))
            with _endpoint(running, url, "job.dead"):
                found["to other events"].append(drained(running, ["default"]))
            with _endpoint(running, url, "job.succeeded") as endpoint_id:
                found["to these"].append(drained(running, ["default"]))
                ((_, seconds),) = when(running, _TOLD, lambda rows: rows[0][0] == DRAINED, endpoint_id)
                found["deliveries"].append(DRAINED / float(seconds))
    plain = median(found["nobody listens"])
    for listens, rates in found.items():
        unit = "a second" if listens == "deliveries" else f"jobs a second, ratio {median(rates) / plain:.2f}"
        print(f"{listens:<20} {median(rates):>8,.0f} {unit}   (of {min(rates):,.0f} to {max(rates):,.0f})", flush=True)


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
