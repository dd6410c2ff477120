"""What the receiver for development answers, and what it prints."""

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.received import Received, Receiver
from jobs import signing

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ID = "evt_01936f6e2f5c7a2b9c3d5e8f1a2b3c4d"
JOB = "01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d"
BODY = json.dumps({"type": "job.dead", "timestamp": "", "data": {"id": JOB, "state": "dead", "args": {}}}).encode()
# Of the length that secrets have, and no more secret than this file.
SECRET, OTHER = f"whsec_{'c2Vj' * 8}", f"whsec_{'b3Ro' * 8}"


def received(receiver: Receiver, body: bytes = BODY, secret: str = SECRET, at: datetime = NOW) -> Received:
    return receiver.receive(signing.headers([secret], ID, int(at.timestamp()), body), body, NOW)


def test_an_event_is_taken_and_is_one_line():
    taken = received(Receiver([SECRET]))
    assert taken.status == HTTPStatus.NO_CONTENT
    assert taken.lines == [f"2027-01-01T00:00:00Z  job.dead  {ID}  {JOB}  dead"]


@pytest.mark.parametrize("secret", [SECRET, OTHER], ids=["new", "old"])
def test_while_secrets_overlap_each_of_them_verifies(secret: str):
    assert received(Receiver([OTHER, SECRET]), secret=secret).status == HTTPStatus.NO_CONTENT


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"secret": OTHER}, "No signature in it was made with this secret"),
        ({"at": NOW - timedelta(minutes=6)}, "It was signed 360 seconds ago"),
    ],
    ids=["other-secret", "old"],
)
def test_what_does_not_verify_gets_401_and_is_told_why(asked: dict[str, Any], why: str):
    turned_away = received(Receiver([SECRET]), **asked)
    assert turned_away.status == HTTPStatus.UNAUTHORIZED
    assert turned_away.reason.startswith(why)
    assert turned_away.lines == [f"2027-01-01T00:00:00Z  refused with 401: {turned_away.reason}"]


def test_a_request_without_a_signature_is_refused():
    assert "webhook-id is missing" in Receiver([SECRET]).receive({}, BODY, NOW).reason


def test_neither_secrets_nor_signatures_are_told():
    receiver = Receiver([SECRET], shows_body=True)
    told = [*received(receiver).lines, *received(receiver, secret=OTHER).lines, repr(receiver)]
    signature = signing.headers([SECRET], ID, int(NOW.timestamp()), BODY)[signing.SIGNATURE]
    assert not any(secret in line for line in told for secret in (SECRET, OTHER, signature.partition(",")[2]))


def test_the_first_events_fail_as_often_as_asked_and_what_is_refused_does_not_count():
    receiver = Receiver([SECRET], failures=2)
    assert received(receiver, secret=OTHER).status == HTTPStatus.UNAUTHORIZED
    failed, again, taken = (received(receiver) for _ in range(3))
    assert [failed.status, again.status, taken.status] == [500, 500, 204]
    assert failed.lines[0].endswith("dead  answered 500")
    assert taken.lines[0].endswith("dead")


def test_the_body_is_shown_when_asked_for():
    first, *shown = received(Receiver([SECRET], shows_body=True)).lines
    assert first.endswith("dead")
    assert json.loads("\n".join(shown)) == json.loads(BODY)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"[" * 100_000, b'{"type": 1}', b'{"type": "job.dead", "data": 1}', b'{"data": {"id": 1}}'],
    ids=["empty", "bytes", "list", "deep", "number", "no-data", "no-type"],
)
def test_a_signed_body_that_is_no_event_is_taken_all_the_same(body: bytes):
    assert received(Receiver([SECRET], shows_body=True), body).status == HTTPStatus.NO_CONTENT


def test_what_comes_does_not_steer_the_terminal():
    body = json.dumps({"type": "\x1b[2J\n", "data": {}}).encode()
    assert "\\x1b[2J\\n" in received(Receiver([SECRET]), body).lines[0]
    assert "\x1b" not in "".join(received(Receiver([SECRET], shows_body=True), body=b"\x1b").lines)


def test_it_does_not_listen_without_a_secret_and_says_where_that_comes_from():
    asked = CliRunner().invoke(main, ["webhooks", "listen"], env={"JOBMILL_WEBHOOK_SECRET": ""})
    assert (asked.exit_code, "JOBMILL_WEBHOOK_SECRET" in asked.stderr) == (2, True)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_secret_that_is_none_is_refused_and_not_repeated(way: str):
    wrong = "whsec_notbase64!"
    words = ["--secret", wrong] if way == "option" else []
    asked = CliRunner().invoke(main, ["webhooks", "listen", *words], env={"JOBMILL_WEBHOOK_SECRET": wrong})
    assert asked.exit_code == 2
    assert "whsec_ and base64" in asked.stderr
    assert wrong not in asked.output
