"""The parts of Dramatiq that are not public and that our subclasses lean on, in the version that is installed.

Dramatiq is pinned. Whoever raises the pin learns here what has moved, instead of from a worker that
acknowledges the wrong message.
"""

import ast
import inspect
from importlib.metadata import version
from pathlib import Path

import dramatiq
import pytest
from dramatiq import Broker, Consumer, MessageProxy, Middleware
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.worker import ConsumerThread, Worker, WorkerThread

from workers.broker import JobmillBroker
from workers.consumer import JobmillConsumer

PARAMETERS = {
    RabbitmqBroker.__init__: ["self", "confirm_delivery", "url", "middleware", "max_priority", "parameters", "kwargs"],
    RabbitmqBroker.declare_queue: ["self", "queue_name", "ensure"],
    RabbitmqBroker.enqueue: ["self", "message", "delay"],
    RabbitmqBroker.consume: ["self", "queue_name", "prefetch", "timeout"],
    _RabbitmqConsumer.__init__: ["self", "broker", "queue_name", "prefetch", "timeout"],
    _RabbitmqConsumer.__next__: ["self"],
    _RabbitmqConsumer.ack: ["self", "message"],
    _RabbitmqConsumer.nack: ["self", "message"],
    _RabbitmqConsumer.requeue: ["self", "messages"],
    Broker.emit_after: ["self", "signal", "args", "kwargs"],
    Broker.consume: ["self", "queue_name", "prefetch", "timeout"],
    Consumer.ack: ["self", "message"],
    Consumer.nack: ["self", "message"],
    Consumer.requeue: ["self", "messages"],
    MessageProxy.__init__: ["self", "message"],
    MessageProxy.fail: ["self"],
    Middleware.after_process_message: ["self", "broker", "message", "result", "exception"],
    Worker.__init__: ["self", "broker", "queues", "worker_timeout", "worker_threads"],
    Worker.start: ["self"],
    Worker.stop: ["self", "timeout"],
    WorkerThread.stop: ["self"],
    ConsumerThread.post_process_message: ["self", "message"],
}


@pytest.mark.parametrize(("function", "names"), PARAMETERS.items(), ids=lambda part: getattr(part, "__qualname__", ""))
def test_the_functions_that_are_overridden_or_called_take_what_they_took(function, names):
    assert list(inspect.signature(function).parameters) == names


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (RabbitmqBroker, {"parameters", "queues", "state", "confirm_delivery"}),
        (_RabbitmqConsumer, {"broker", "queue_name", "logger", "connection", "channel", "iterator"}),
        (Worker, {"consumers", "workers", "work_queue", "queue_prefetch"}),
        (ConsumerThread, {"consumer", "prefetch"}),
        (WorkerThread, {"consumers", "running"}),
    ],
)
def test_the_attributes_that_we_read_or_replace_are_still_set(owner, names):
    module = Path(inspect.getfile(owner)).read_text()
    tree = next(node for node in ast.walk(ast.parse(module)) if getattr(node, "name", "") == owner.__name__)
    written = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert names <= written


def test_of_dramatiqs_consumer_only_closing_is_used():
    """Whatever else it does with a connection ours does itself, so that no tag of an earlier one is acknowledged."""
    left = {name for name in vars(_RabbitmqConsumer) if not name.startswith("__")} - set(vars(JobmillConsumer))
    assert left == {"_nack"}
    assert "known_tags" not in inspect.getsource(_RabbitmqConsumer.close)


def test_our_broker_and_consumer_have_no_method_that_overrides_nothing_by_a_slip_of_the_name():
    broker = {"connect", "distrust", "drain"}
    consumer = {"wake", "_next", "_consume", "_receive", "_take_in", "_begin", "_wait", "_adjusted", "_pause"}
    consumer |= {
        "_close",
        "_doubt",
        "_take_nothing_more",
        "_acknowledge_early",
        "_owed",
        "_answer",
        "_send",
        "_abandon",
    }
    for cls, base, own in ((JobmillBroker, RabbitmqBroker, broker), (JobmillConsumer, _RabbitmqConsumer, consumer)):
        added = {name for name in vars(cls) if not name.startswith("__")} - own
        assert {name for name in added if not hasattr(base, name)} == set()


def test_the_pin_and_the_installed_version_are_those_that_were_read():
    assert version("dramatiq") == dramatiq.__version__ == "2.2.1"
