"""A receiver of webhooks that answers, and remembers whom it has heard."""

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.acceptance.process import free_port


@contextmanager
def receiving() -> Iterator[tuple[str, list[str]]]:
    """Answers 204 to all; gives its URL and the ids of the events that it has heard."""
    heard: list[str] = []

    def hear(request: Request) -> Response:
        heard.append(request.headers["webhook-id"])
        return Response(status=204)

    with HTTPServer("127.0.0.1", free_port(), threaded=True) as server:
        server.expect_request("/").respond_with_handler(hear)
        yield server.url_for("/"), heard
