"""Taking something out of the API: who still uses it is told so by headers (RFC 9745, RFC 8594), the rest are not.

    class Query(BaseModel):
        colour: Annotated[str | None, Deprecated(since=date(2027, 1, 1), sunset=date(2028, 1, 1), use="color")] = None

marks a member of a query, a body or a document; `endpoint(..., deprecated=Deprecated(...))` marks the whole operation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from functools import cache
from types import UnionType
from typing import Any, get_type_hints

from flask import Response
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

_EXPLAINED = '</docs>; rel="deprecation"; type="text/html"'


@dataclass(frozen=True)
class Deprecated:
    """Since when something is deprecated, when it will be gone at the earliest, and what to use instead."""

    since: date
    sunset: date
    use: str

    @property
    def words(self) -> str:
        """What the OpenAPI document says of it."""
        return f"Deprecated since {self.since}, gone after {self.sunset}: use {self.use}."

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of what is marked."""
        schema = handler(core)
        words = " ".join(filter(None, [schema.get("description"), self.words]))
        return schema | {"deprecated": True, "description": words}


def tell(answer: Response, used: Iterable[Deprecated]) -> None:
    """Tell of what the request used: since when the first is deprecated, and when the first will be gone."""
    marks = list(used)
    if not marks:
        return
    answer.headers["Deprecation"] = f"@{int(_midnight(min(mark.since for mark in marks)).timestamp())}"
    answer.headers["Sunset"] = format_datetime(_midnight(min(mark.sunset for mark in marks)), usegmt=True)
    answer.headers.add("Link", _EXPLAINED)


def among(model: Any, names: Iterable[str] | None) -> list[Deprecated]:
    """The marks of those members of a query, body or document; None: of all."""
    known = _marks(model) if model is not None else {}
    return [mark for name, mark in known.items() if names is None or name in names]


@cache
def _marks(model: Any) -> Mapping[str, Deprecated]:
    if isinstance(model, UnionType):
        return {name: mark for alternative in model.__args__ for name, mark in _marks(alternative).items()}
    if isinstance(model, type) and issubclass(model, BaseModel):
        told = {name: tuple(field.metadata) for name, field in model.model_fields.items()}
    else:
        hints = get_type_hints(model, include_extras=True)
        told = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark for name, metadata in told.items() for mark in metadata if isinstance(mark, Deprecated)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
