"""Secrets of known forms do not get into what is recorded of an exception."""

import pytest

from jobs.attempt import MOST_MESSAGE_BYTES
from jobs.masking import masked
from tests.unit.test_attempt import Args, run

CANARY = "canary0secret0canary"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"postgresql://jobs:{CANARY}@db:5432/x", "postgresql://jobs:***@db:5432/x"),
        (f"amqp://:{CANARY}@mq/", "amqp://:***@mq/"),
        (f"token jm_k3v9x0_{CANARY}-_A.", "token jm_k3v9x0_***."),
        (f"whsec_{CANARY}+/=", "whsec_***"),
        (f"{{'Authorization': 'Bearer {CANARY}'}}", "{'Authorization': 'Bearer ***'}"),
        (f"basic {CANARY}==", "basic ***"),
        ("https://example.org/a:b@c and user@example.org", "https://example.org/a:b@c and user@example.org"),
        ("a bearer of news, a basic fact", "a bearer of news, a basic fact"),
    ],
)
def test_a_secret_of_a_known_form_is_masked_and_nothing_else(text: str, left: str):
    assert masked(text) == left


@pytest.mark.parametrize("filling", [0, MOST_MESSAGE_BYTES - 30], ids=["whole", "where the message is cut"])
def test_message_and_trace_of_a_failure_are_masked(filling: int):
    def connect() -> None:
        raise OSError("x" * filling + f" postgresql://jobs:{CANARY}@db:5432/x")

    def handler(args: Args) -> None:
        try:
            connect()
        except OSError as error:
            raise RuntimeError(str(error)) from error

    failure = run(handler).failure  # type: ignore[union-attr]
    assert "postgresql://" in failure.message
    assert "canary" not in f"{failure.message}{failure.trace}"
