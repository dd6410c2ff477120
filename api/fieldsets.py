"""Sparse fieldsets: `?fields=id,state,progress.percent` on whatever is read, declared and applied in one place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic_core import PydanticCustomError
from typing_extensions import is_typeddict

NAME = "fields"
LONGEST = 2000

Members = Mapping[str, "Members"]
"""The members of a document by name, each with its own; a member whose inside is free has none to choose from."""


@dataclass(frozen=True)
class Fieldset:
    """Which members of a document were asked for."""

    chosen: Members

    def without(self, *names: str) -> frozenset[str]:
        """Those of the members that were not asked for: they need not be read from the database."""
        return frozenset(names) - self.chosen.keys()

    def of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with nothing but these."""
        return _cut(document, self.chosen)


def with_fields(query: type[BaseModel], document: Any) -> type[BaseModel]:
    """The query of an operation that answers such a document: `query`, and `fields` besides."""
    known = members(document)
    check = AfterValidator(partial(_fieldset, known=known))
    told = Field(
        max_length=LONGEST,
        description="Members to answer with, comma-separated; those of an inner object as `progress.percent`.",
        json_schema_extra=partial(_as_a_list, names=list(_paths(known))),
    )
    fields: Any = (Annotated[str, told, check] | None, None)
    return create_model(query.__name__, __base__=query, __doc__=query.__doc__, fields=fields)


def _as_a_list(schema: dict[str, Any], names: list[str]) -> None:
    """How OpenAPI tells of a text that is a comma-separated list."""
    del schema["maxLength"]
    schema |= {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1}


def _paths(known: Members) -> Iterator[str]:
    for name, inside in known.items():
        yield name
        yield from (f"{name}.{path}" for path in _paths(inside))


def chosen(query: Any) -> Fieldset | None:
    """What a checked query asks for; None: everything."""
    fieldset: Fieldset | None = getattr(query, "fields", None)
    return fieldset


def members(document: Any) -> dict[str, Members]:
    """The members of a document's type."""
    return {name: _inside(annotation) for name, annotation in get_type_hints(document).items()}


def _inside(annotation: Any) -> Members:
    for choice in (annotation, *get_args(annotation)):
        if is_typeddict(choice):
            return members(choice)
    return {}


def _fieldset(text: str, known: Members) -> Fieldset:
    names = text.split(",")
    if unknown := [name for name in names if not _is_known(name.split("."), known)]:
        told = ", ".join(repr(name[:100]) for name in unknown[:20])
        raise PydanticCustomError(
            "unknown-field",
            "There is no field {unknown}. Known: {known}.",
            {"unknown": told, "known": ", ".join(known)},
        )
    return Fieldset(_tree(name.split(".") for name in names))


def _is_known(path: list[str], known: Members) -> bool:
    for name in path:
        if name not in known:
            return False
        known = known[name]
    return True


def _tree(paths: Iterator[list[str]]) -> Members:
    """The paths as members in members. A member that is asked for as a whole keeps all of its own."""
    heads: dict[str, list[list[str]]] = {}
    for head, *rest in paths:
        heads.setdefault(head, []).append(rest)
    return {head: {} if [] in rests else _tree(iter(rests)) for head, rests in heads.items()}


def _cut(document: Mapping[str, Any], chosen_members: Members) -> dict[str, Any]:
    return {
        name: _inside_cut(value, chosen_members[name]) for name, value in document.items() if name in chosen_members
    }


def _inside_cut(value: Any, chosen_members: Members) -> Any:
    if value is None or not chosen_members:
        return value
    return [_cut(item, chosen_members) for item in value] if isinstance(value, list) else _cut(value, chosen_members)
