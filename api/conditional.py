"""Conditional reads (RFC 9110, section 13): a strong `ETag` on what is read, and 304 to whoever has it already."""

import base64
import hashlib

from flask import Response, request

_BYTES = 18


def answer(full: Response) -> Response:
    """The answer with its ETag; without its body if the client names that tag in `If-None-Match`."""
    # Of the bytes themselves, which is what makes it strong; nothing on the way from here compresses them.
    tag = base64.urlsafe_b64encode(hashlib.sha256(full.get_data()).digest()[:_BYTES]).decode()
    full.set_etag(tag)
    if full.status_code == 200 and request.if_none_match.contains_weak(tag):  # noqa: PLR2004
        full.status_code = 304
        full.set_data(b"")
    return full
