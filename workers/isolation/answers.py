"""Outcomes on their way through a channel."""

from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from jobs.outcomes import Outcome, Succeeded
from workers.isolation.frames import Frame, Garbled

_KINDS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in get_args(Outcome)}


def packed(outcome: Outcome) -> tuple[dict[str, Any], bytes]:
    """What to tell of an outcome, and the result that goes along untouched."""
    name = type(outcome).__name__
    told = _KINDS[name].dump_python(outcome, mode="json", exclude={"result"})
    return {"name": name, "told": told}, outcome.result if isinstance(outcome, Succeeded) else b""


def unpacked(frame: Frame) -> Outcome:
    """The outcome that a frame tells of. Raises Garbled."""
    try:
        name, told = frame.told["name"], frame.told["told"]
        result = {"result": frame.body} if name == Succeeded.__name__ else {}
        outcome: Outcome = _KINDS[name].validate_python({**told, **result})
    except (KeyError, TypeError, ValidationError) as error:
        raise Garbled("an outcome that is none of ours") from error
    return outcome
