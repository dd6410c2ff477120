import pytest
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import AMQPError

from workers import topology


def test_a_queue_survives_a_node_and_what_it_drops_goes_to_its_dead_letters():
    assert topology.queue_arguments("jobmill.default") == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 100,
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "jobmill.default.XQ",
    }


def test_dead_letters_never_expire():
    assert topology.dead_letter_arguments() == {"x-queue-type": "quorum"}


def test_names_carry_the_installations_prefix():
    assert topology.queue_name("jobmill-staging", "media") == "jobmill-staging.media"
    assert topology.dead_letter_name("jobmill-staging.media") == "jobmill-staging.media.XQ"


@pytest.mark.parametrize("url", ["amqp://guest:guest@mq1:5673/%2F", "amqp://mq1/%2F?heartbeat=0&socket_timeout=9999"])
def test_every_wait_for_a_broker_is_bounded_whatever_the_url_says(url):
    parameters = topology.connection_parameters(url, "jobmill tests")
    assert parameters.heartbeat == 5
    assert parameters.blocked_connection_timeout == 10
    assert parameters.socket_timeout == 5
    assert parameters.stack_timeout == 8
    assert parameters.connection_attempts == 1
    assert parameters.client_properties == {"connection_name": "jobmill tests"}


def test_a_frozen_broker_counts_as_one_that_is_gone():
    assert not issubclass(AMQPConnectorStackTimeout, AMQPError)  # so that it has to be named
    assert issubclass(AMQPConnectorStackTimeout, topology.BROKER_ERRORS)
