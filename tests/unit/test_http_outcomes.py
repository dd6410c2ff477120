from datetime import UTC, datetime, timedelta

import pytest

from jobs.builtin.http_outcomes import ServerFailed, check_status, refusals_are_permanent, retry_after
from jobs.outbound_errors import (
    AddressRefused,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    NameNotResolved,
    RequestInvalid,
)
from jobs.outcomes import Permanent, RetryLater

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("86401", 86_400),
        ("9" * 100_000, 86_400),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30),
        ("Mon Nov 23 12:00:30 2026", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 23 Nov 2099 12:00:00 GMT", 86_400),
    ],
)
def test_a_server_names_its_wait_in_seconds_or_as_a_date(value, seconds):
    assert retry_after(value, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "٣", "Mon, 99 Foo 2026 99:99:99 GMT", "1e3"])
def test_a_wait_that_cannot_be_read_is_none(value):
    assert retry_after(value, NOW) is None


@pytest.mark.parametrize(("status", "expected"), [(200, None), (299, None), (404, {404}), (503, {200, 503})])
def test_an_expected_status_is_fine(status, expected):
    check_status(status, {}, NOW, expected or range(200, 300))


@pytest.mark.parametrize("status", [429, 500, 503, 599])
def test_a_busy_server_is_tried_again_when_it_says(status):
    with pytest.raises(RetryLater, match=str(status)) as answer:
        check_status(status, {"retry-after": "7"}, NOW)
    assert answer.value.after == timedelta(seconds=7)


@pytest.mark.parametrize("status", [429, 500, 503, 599])
def test_a_busy_server_that_names_no_time_is_tried_again_by_the_policy(status):
    with pytest.raises(ServerFailed, match=str(status)):
        check_status(status, {}, NOW)


@pytest.mark.parametrize("status", [301, 304, 400, 401, 404, 410, 499])
def test_another_status_is_final(status):
    with pytest.raises(Permanent, match=f"answered {status}.*any 2xx") as answer:
        check_status(status, {"retry-after": "7"}, NOW)
    assert answer.value.code == "unexpected-status"


def test_a_success_that_was_not_expected_is_final():
    with pytest.raises(Permanent, match="expected 201 or 202"):
        check_status(200, {}, NOW, {202, 201})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AddressRefused("no"), "address-refused"),
        (RequestInvalid("no"), "request-invalid"),
        (BodyTooLarge(5), "body-too-large"),
    ],
)
def test_what_no_retry_can_mend_is_final(error, code):
    with pytest.raises(Permanent) as answer, refusals_are_permanent():
        raise error
    assert (answer.value.reason, answer.value.code) == (str(error), code)


@pytest.mark.parametrize(
    "error", [NameNotResolved("x"), ConnectFailed("x"), ConnectionLost("x"), DeadlineExceeded(5), ServerFailed("x")]
)
def test_what_may_pass_is_left_to_the_retry_policy(error):
    with pytest.raises(type(error)), refusals_are_permanent():
        raise error
