from datetime import timedelta
from unittest.mock import create_autospec

import pytest

import jobs.builtin  # noqa: F401 - declares the type
from jobs.outbound import Answer, Outbound
from jobs.outbound_errors import AddressRefused, DeadlineExceeded
from jobs.testing import run_job

URL = {"url": "https://example.com/hook"}


def server(status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"", truncated: bool = False):
    outbound = create_autospec(Outbound, instance=True)
    outbound.request.return_value = Answer(status, headers or {}, body, truncated)
    return outbound


def call(http, **args):
    return run_job("http.request", {**URL, **args}, http=http)


def test_the_answer_is_kept():
    http = server(201, {"x-id": "7"}, "né".encode())
    ran = call(http, method="POST", headers={"X-Key": "k"}, body="hé")
    assert ran.result == {"status": 201, "headers": {"x-id": "7"}, "body": "né", "truncated": False}
    http.request.assert_called_once_with(
        "POST",
        "https://example.com/hook",
        headers={"X-Key": "k"},
        content="hé".encode(),
        deadline_seconds=120.0,
        most_bytes=256 * 1024,
    )


def test_a_body_that_is_not_utf8_is_shown_with_replacement_characters():
    assert call(server(body=b"a\xff\x00b")).result["body"] == "a\ufffd\ufffdb"


def test_a_character_cut_in_half_is_left_out():
    result = call(server(body="né".encode()[:-1], truncated=True)).result
    assert (result["body"], result["truncated"]) == ("n", True)


def test_a_body_of_control_characters_still_fits_the_result():
    result = call(server(body=b"\x01" * 256 * 1024)).result
    assert result["truncated"]
    assert result["body"] == "\x01" * 64 * 1024


@pytest.mark.parametrize(("expected", "status"), [(404, 404), ([200, 503], 503)])
def test_a_status_may_be_expected(expected, status):
    assert call(server(status), expected_status=expected).result["status"] == status


def test_a_busy_server_is_tried_again_when_it_says():
    ran = call(server(503, {"retry-after": "90"}))
    assert not ran.permanent
    assert ran.retry_after == timedelta(seconds=90)


def test_an_unexpected_status_is_final():
    ran = call(server(404))
    assert ran.permanent
    assert ran.error
    assert ran.error.code == "unexpected-status"


@pytest.mark.parametrize(
    ("error", "permanent", "code"),
    [
        (AddressRefused("inside"), True, "address-refused"),
        (DeadlineExceeded(5), False, "exception"),
    ],
)
def test_a_failed_call_is_final_only_if_no_retry_can_mend_it(error, permanent, code):
    http = server()
    http.request.side_effect = error
    ran = call(http)
    assert ran.error
    assert (ran.permanent, ran.error.code) == (permanent, code)


@pytest.mark.parametrize(
    "args",
    [
        {"method": "CONNECT"},
        {"expected_status": 700},
        {"expected_status": []},
        {"headers": {"a": 1}},
        {"url": ""},
        {"unknown": 1},
    ],
)
def test_arguments_are_checked(args):
    ran = call(server(), **args)
    assert ran.error
    assert ran.error.code == "invalid-args"


def test_a_header_that_cannot_be_sent_is_final_and_its_value_is_not_told():
    ran = call(Outbound(), headers={"Authorization": "Bearer canary\r\nX: y"})
    assert ran.permanent
    assert ran.error
    assert ran.error.code == "request-invalid"
    assert "canary" not in ran.error.message + (ran.error.trace or "")
