"""Reading a request's parameters and body by a model, and telling all that is wrong with them."""

from collections.abc import Sequence
from typing import Any

from flask import request
from pydantic import BaseModel, ValidationError

from api.problems import Flaw
from jobs.submission import plain_words, pointer


def untold(found: Sequence[Flaw], told: Sequence[Flaw]) -> list[Flaw]:
    """The flaws of the body that are not within a part which is known to be wrong already."""
    wrong = {flaw.pointer for flaw in told if flaw.place == "body"}
    within = tuple(f"{pointer}/" for pointer in wrong if pointer)
    return [flaw for flaw in found if flaw.pointer not in wrong and not flaw.pointer.startswith(within)]


def query_values(model: type[BaseModel], flaws: list[Flaw]) -> dict[str, Any]:
    """Query parameters by name; those of a list's type may repeat, those of a mapping's are named by member."""
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        of, _, member = name.partition(".")
        if any(
            "\0" in value for value in (name, *given)
        ):  # which PostgreSQL takes in no text, not even to compare with
            flaws.append(Flaw("query", name, "nul-character", "NUL characters are not accepted."))
        elif _annotation(model, name) in _REPEATABLE:
            values[name] = tuple(given)
        elif len(given) > 1:
            flaws.append(Flaw("query", name, "repeated", f"{name} may be given once."))
        elif member and _annotation(model, of) in _NAMED:
            values.setdefault(of, {})[member] = given[0]
        else:
            values[name] = given[0]
    return values


def _annotation(model: type[BaseModel], name: str) -> Any:
    known = model.model_fields.get(name)
    return known.annotation if known else None


def checked(model: type[BaseModel], values: Any, place: str, flaws: list[Flaw]) -> Any:
    """The values as the model reads them, or None, and what is wrong with them added to `flaws`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            where = pointer(fault["loc"]) if place == "body" else ".".join(str(part) for part in fault["loc"][:1])
            flaws.append(Flaw(place, where, fault["type"].replace("_", "-"), plain_words(fault["msg"])))
        return None


_REPEATABLE: set[Any] = set()
_NAMED: list[Any] = []


def repeatable(annotation: Any) -> Any:
    """Mark a tuple type whose query parameter may be given several times."""
    _REPEATABLE.add(annotation)
    return annotation


def named(annotation: Any) -> Any:
    """Mark a mapping whose members are query parameters of their own: `tag.customer=42`."""
    _NAMED.append(annotation)
    return annotation
