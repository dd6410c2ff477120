"""A receiver of webhooks in a process of its own: verifies each request with the standardwebhooks package, notes it.

`python receiver.py PORT NOTES SECRET_FILE`. Below /hang it never answers, below /no it answers 500. Each request is a
line of JSON in NOTES, written before the answer leaves, as a receiver has to that would lose nothing.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.acceptance.process import Process, free_port

HANGS_SECONDS = 60


class Receiver(Process):
    """The receiver as a test starts, kills and starts it again."""

    program: Sequence[str | Path] = (sys.executable, __file__)

    def __init__(self, folder: Path) -> None:
        self.port, self.notes, self.secret_file = free_port(), folder / "received", folder / "secret"
        settings = {"PYTHONPATH": str(Path(__file__).parents[2])}
        super().__init__(str(self.port), self.notes, self.secret_file, settings=settings, folder=folder)
        self.log = folder / "receiver.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    def trust(self, *secrets: str) -> None:
        """Verify by these secrets, of which one must fit."""
        self.secret_file.write_text("\n".join(secrets))

    def received(self) -> list[dict[str, Any]]:
        """What it has noted, in order; a line that was cut by its end does not count."""
        lines = self.notes.read_text().splitlines(keepends=True) if self.notes.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}\n")]


def main() -> None:
    """Serve until killed."""
    port, notes, secret_file = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    lock = threading.Lock()
    # A killed one may have left half a line.
    with notes.open("a") as cut:
        if notes.stat().st_size and not notes.read_text().endswith("\n"):
            cut.write("(cut)\n")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/hang"):
                time.sleep(HANGS_SECONDS)
                return
            told = json.loads(body)
            note = {
                "at": time.time(),
                "path": self.path,
                "id": self.headers["webhook-id"],
                "type": told["type"],
                "job": told["data"].get("id"),
                "state": told["data"].get("state"),
                "verified": [_verifies(secret, body, self.headers) for secret in secret_file.read_text().split()],
            }
            with lock, notes.open("a") as file:
                file.write(json.dumps(note) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.send_response(500 if self.path.startswith("/no") else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing: requests are noted."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def _verifies(secret: str, body: bytes, headers: Any) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers))
    except WebhookVerificationError:
        return False
    return True


if __name__ == "__main__":
    main()
