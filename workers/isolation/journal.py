"""Log lines of an isolated handler, its libraries' included: said in its process, written to its worker's log."""

import logging
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson
import structlog

from jobs.serialise import clean_text
from workers.isolation.frames import Channel, Frame, Garbled

MOST_EVENT = 16 * 1024
MOST_FIELDS_BYTES = 64 * 1024


def forward_logs(channel: Channel, level: int) -> None:
    """From here on every line of this process goes to the worker."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _send,
        ],
        logger_factory=lambda name="jobs": _Named(channel, str(name)),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level, handlers=[_Forwarding(channel)], force=True)


def write(frame: Frame) -> None:
    """Write a line that came, beside whatever the calling thread is known to be about."""
    try:
        fields: dict[str, Any] = orjson.loads(frame.body)
        logger, level, event = (frame.told[part] for part in ("logger", "level", "event"))
    except (ValueError, KeyError) as error:
        raise Garbled("a log line that is none") from error
    with structlog.contextvars.bound_contextvars(**fields):
        structlog.get_logger(logger).log(_standard(level), event)


@dataclass(frozen=True)
class _Named:
    channel: Channel
    name: str


def _send(logger: _Named, method: str, event: MutableMapping[str, Any]) -> NoReturn:
    text = str(event.pop("event", ""))
    _forward(
        logger.channel, logger.name, logging.getLevelNamesMapping().get(method.upper(), logging.INFO), text, dict(event)
    )
    raise structlog.DropEvent


class _Forwarding(logging.Handler):
    """The standard library's way into the same."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; one that cannot be formatted is told of as the library does."""
        try:
            fields = {"exception": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
            _forward(self.channel, record.name, record.levelno, record.getMessage(), fields)
        except Exception:  # noqa: BLE001
            self.handleError(record)


def _forward(channel: Channel, logger: str, level: int, event: str, fields: dict[str, Any]) -> None:
    # A worker that is gone hears nothing, and takes this process with it.
    with suppress(OSError):
        channel.send(
            "log", _packed(fields), logger=clean_text(logger), level=level, event=clean_text(event[:MOST_EVENT])
        )


def _standard(level: int) -> int:
    """The named level at or below it; libraries may have levels of their own, which structlog does not."""
    return min(max(level // 10 * 10, logging.DEBUG), logging.CRITICAL)


def _packed(fields: dict[str, Any]) -> bytes:
    try:
        body = orjson.dumps(fields, default=repr)
    except TypeError:  # keys that are no text, numbers beyond 64 bits, lone surrogates
        body = orjson.dumps({clean_text(str(key)): clean_text(repr(value)) for key, value in fields.items()})
    return body if len(body) <= MOST_FIELDS_BYTES else orjson.dumps({"left_out_bytes": len(body)})
