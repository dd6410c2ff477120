"""Whole numbers written with a point: to JSON Schema 1.0 is an integer, to pydantic's strict mode it is none."""

from pydantic import BeforeValidator

from jobs.outcomes import Json

_EXACT = 2**53
"""Beyond, a double stands for several integers."""


def whole(value: object) -> object:
    """1.0 as 1; everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def all_whole(document: Json) -> Json:
    """A document with every such number as an integer."""
    if isinstance(document, dict):
        return {name: all_whole(value) for name, value in document.items()}
    if isinstance(document, list):
        return [all_whole(value) for value in document]
    return whole(document)


WHOLE = BeforeValidator(whole)
"""For an integer of a strict model, behind its bounds: `Annotated[int, Field(ge=1), WHOLE]`."""
