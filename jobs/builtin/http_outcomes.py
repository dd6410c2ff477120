"""What a web server's answer, or a refusal to call it, means for the job that called."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from jobs.outbound_errors import AddressRefused, BodyTooLarge, RequestInvalid
from jobs.outcomes import Permanent, RetryLater

LONGEST_RETRY_AFTER = timedelta(hours=24)
ANY_SUCCESS = range(200, 300)
MOST_DIGITS = 9


class ServerFailed(Exception):  # noqa: N818 - reads as the sentence it is
    """The server answered with a status that may pass, and named no time; the retry policy applies."""


@contextmanager
def refusals_are_permanent() -> Iterator[None]:
    """Turns what no retry can mend into Permanent; other failures of a call follow the retry policy."""
    try:
        yield
    except AddressRefused as error:
        raise Permanent(str(error), "address-refused") from None
    except RequestInvalid as error:
        raise Permanent(str(error), "request-invalid") from None
    except BodyTooLarge as error:
        raise Permanent(str(error), "body-too-large") from None


def check_status(
    status: int, headers: Mapping[str, str], now: datetime, expected: Collection[int] = ANY_SUCCESS
) -> None:
    """Return if the status was expected; else raise what says how the job goes on."""
    if status in expected:
        return
    reason = f"The server answered {status}{_phrase(status)}; expected {_listed(expected)}."
    if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Permanent(reason, "unexpected-status")
    after = retry_after(headers.get("retry-after", ""), now)
    if after is None:
        raise ServerFailed(reason)
    raise RetryLater(after, reason)


def retry_after(value: str, now: datetime) -> timedelta | None:
    """The wait that a Retry-After field asks for (RFC 9110, 10.2.3), at most 24 hours; None if it asks none."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Cut before int() reads it: beyond nine digits it is over 24 hours in any case.
        wait = (
            timedelta(seconds=int(value.lstrip("0") or 0))
            if len(value.lstrip("0")) <= MOST_DIGITS
            else LONGEST_RETRY_AFTER
        )
    elif (then := _http_date(value)) is not None:
        wait = then - now
    else:
        return None
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def _http_date(value: str) -> datetime | None:
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return then if then.tzinfo else then.replace(tzinfo=UTC)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _listed(expected: Collection[int]) -> str:
    return "any 2xx" if expected is ANY_SUCCESS else " or ".join(map(str, sorted(expected)))
