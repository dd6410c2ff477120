"""The heads of requests: what gunicorn's parser lets pass and we do not, and what is said of one that is refused.

Whatever a proxy before us might read otherwise is refused (RFC 9112, 11.2), and what came is not told back.
"""

import re

from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidHeader,
    InvalidHTTPVersion,
    InvalidRequestLine,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request

from api.refusals import Refusal
from cli.arrival import TooSlow

# A name or an address, and a port (RFC 9110, 7.2).
_HOST = re.compile(r"([A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
# A proxy that guards an address would not know it again: decoded, they are what divides a path.
_HIDDEN = re.compile(r"%(2f|5c|00)", re.IGNORECASE)
_ONCE = ("AUTHORIZATION", "IDEMPOTENCY-KEY")
_WITH_BODY = {"POST", "PUT", "PATCH"}

_REFUSALS = (
    (LimitRequestLine, Refusal("uri-too-long", "The request line is longer than 8190 bytes.")),
    (LimitRequestHeaders, Refusal("headers-too-large", "There may be 100 headers of 8190 bytes each.")),
    (TooSlow, Refusal("request-timeout", "The request did not come as a whole in its time.")),
    (UnsupportedTransferCoding, Refusal("http-error", "The one Transfer-Encoding that is known is chunked.", 501)),
    (ExpectationFailed, Refusal("http-error", "The one expectation that is met is 100-continue.", 417)),
    (InvalidRequestLine, Refusal("malformed-request", "The request line is malformed.")),
    (ParseException, Refusal("malformed-request", "The head of the request is malformed.")),
    (Exception, Refusal("internal-error", "The error was logged under this request_id.")),
)
_OTHER_VERSION = Refusal("http-error", "This server speaks HTTP/1.1 and HTTP/1.0.", 505)


def check(req: Request) -> None:
    """Refuse a head that could be read in two ways. Raises ParseException."""
    target, version = str(req.uri), req.version or (1, 0)
    if "#" in target or _HIDDEN.search(target.partition("?")[0]):
        raise InvalidRequestLine(target)
    if any(len(_given(req, name)) > 1 for name in _ONCE):
        raise InvalidHeader("repeated")
    hosts = _given(req, "HOST")
    if not (_HOST.fullmatch(hosts[0]) if hosts else version < (1, 1)):
        raise InvalidHeader("HOST")


def is_last(req: Request) -> bool:
    """Whether what follows on the connection must not be read: where the body ends is a matter of opinion."""
    lengthless = req.method in _WITH_BODY and not _given(req, "CONTENT-LENGTH")
    options = ",".join(_given(req, "CONNECTION")).lower().split(",")
    return lengthless or bool(_given(req, "TRANSFER-ENCODING")) or "close" in (option.strip() for option in options)


def refusal(error: Exception) -> Refusal:
    """What to say of a head that cannot be read."""
    if isinstance(error, InvalidHTTPVersion) and isinstance(error.version, tuple):
        return _OTHER_VERSION
    return next(one for kind, one in _REFUSALS if isinstance(error, kind))


def _given(req: Request, name: str) -> list[str]:
    return [value for given, value in req.headers if given == name]
