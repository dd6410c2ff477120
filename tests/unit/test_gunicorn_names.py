"""The parts of gunicorn that are not public and that our server leans on, in the version that is installed.

gunicorn is pinned. Whoever raises the pin learns here what has moved, instead of from a server that reads a request
the wrong way.
"""

import inspect

import pytest
from gunicorn.http.message import Request
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

PARAMETERS = {
    TConn.__init__: ["self", "cfg", "sock", "client", "server"],
    TConn.init: ["self"],
    TConn.close: ["self", "graceful"],
    ThreadWorker.__init__: ["self", "args", "kwargs"],
    ThreadWorker.accept: ["self", "listener"],
    ThreadWorker.enqueue_req: ["self", "conn"],
    ThreadWorker.get_thread_pool: ["self"],
    ThreadWorker.handle: ["self", "conn"],
    ThreadWorker.handle_request: ["self", "req", "conn"],
    ThreadWorker.handle_error: ["self", "req", "client", "addr", "exc"],
    ThreadWorker.handle_exit: ["self", "sig", "frame"],
    ThreadWorker.is_parent_alive: ["self"],
    ThreadWorker.notify: ["self"],
    ThreadWorker.run: ["self"],
    ThreadWorker.set_accept_enabled: ["self", "enabled"],
    PollableMethodQueue.init: ["self"],
    Request.force_close: ["self"],
    SocketUnreader.chunk: ["self", "size_hint"],
}


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: function.__qualname__)
def test_what_we_override_and_call_takes_what_we_think(function: object):
    assert list(inspect.signature(function).parameters) == PARAMETERS[function]  # type: ignore[arg-type, index]


def test_a_parser_that_is_there_already_is_kept():
    assert "if self.parser is None" in inspect.getsource(TConn.init)
