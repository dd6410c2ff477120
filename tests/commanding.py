"""`jobmill` as somebody at a terminal types it, against a real server in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs
from werkzeug.serving import make_server

from cli import asking
from cli.main import main
from tests.doors import Caller

Run = Callable[..., Result]


@contextmanager
def served(caller: Caller) -> Iterator[str]:
    """The address of a server of the caller's application."""
    server = make_server("127.0.0.1", 0, caller.doors.app, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    with capture_logs():  # which the server, in this process, would print among the command's own lines
        yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    server.server_close()


def commanding(monkeypatch: pytest.MonkeyPatch, url: str, token: str | None) -> Run:
    """Runs `jobmill` with the words it is given; an `answer` is what somebody at a terminal types."""

    def invoke(*words: str, answer: str | None = None, key: str | None = None) -> Result:
        monkeypatch.setattr(asking, "is_attended", lambda: answer is not None)
        environment = {"JOBMILL_URL": url, "JOBMILL_API_KEY": key or token}
        result = CliRunner().invoke(main, words, env=environment, input=answer)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
