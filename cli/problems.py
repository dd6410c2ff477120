"""A refusal in words: the server's problem details (RFC 9457) as lines for a person."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any


def problem(body: bytes) -> Mapping[str, Any]:
    """The problem document in an answer; empty when there is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def describe(status: int, document: Mapping[str, Any], request_id: str | None) -> str:
    """Title, detail, every fault with its place, and the request id to ask the operator about."""
    title = document.get("title") or _phrase(status)
    lines = [f"{title} ({' '.join(filter(None, [str(status), _word(document.get('code'))]))})"]
    if detail := _word(document.get("detail")):
        lines.append(f"  {detail}")
    faults = document.get("errors")
    lines += [f"  {_fault(fault)}" for fault in faults if isinstance(fault, dict)] if isinstance(faults, list) else []
    if wanted := _word(document.get("request_id")) or request_id:
        lines.append(f"  request id: {wanted}")
    return "\n".join(lines)


def _fault(fault: Mapping[str, Any]) -> str:
    place = " ".join(filter(None, [_word(fault.get("in")), _word(fault.get("pointer"))]))
    return ": ".join(filter(None, [place, _word(fault.get("detail")) or _word(fault.get("code"))]))


def _word(value: object) -> str:
    return "" if value is None else str(value)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The server refused"
