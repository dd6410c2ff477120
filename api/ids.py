"""Ids as requests spell them: one spelling each, so that what is compared and signed is the same text."""

from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator


def uuid_or_none(text: str) -> UUID | None:
    """The id that a text spells; None for whatever else UUID() would take."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def _spelled(value: object) -> object:
    found = uuid_or_none(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("an id is spelled as 01936f6e-2f5c-7a2b-9c3d-5e8f1a2b3c4d")
    return found


AnId = Annotated[UUID, BeforeValidator(_spelled)]
