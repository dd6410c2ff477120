"""Whether a broker does what everything rests on: a message that it confirms is there to be fetched."""

import pika
from pika.exceptions import AMQPError

from workers import topology

_BODY = b"jobmill check"


def confirms(url: str) -> None:
    """Have the broker confirm a message and give it back, on a queue of this connection alone.

    Raises one of BROKER_ERRORS.
    """
    with pika.BlockingConnection(topology.connection_parameters(url, "jobmill check")) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
        channel.basic_publish("", queue, _BODY, mandatory=True)
        _, _, body = channel.basic_get(queue, auto_ack=True)
        if body != _BODY:
            raise AMQPError("a message that was confirmed is not on its queue")
