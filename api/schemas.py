"""The schemas of the OpenAPI document: pydantic's, gathered under one name each, less what only repeats."""

import json
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from typing_extensions import is_typeddict

from jobs.registry import JobType, Registry

Schema = dict[str, Any]
Mode = Literal["validation", "serialization"]

BY_JOB_TYPE = "x-jobmill-by-job-type"
"""Marks the schema of a submission: it is told once for each job type, with the arguments of that type."""
_REFERENCE = "#/components/schemas/"
_AS_THEY_ARE = {"examples", "example", "default", "const", "enum"}


class Schemas:
    """The components that operations refer to, made as they are asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, Schema] = {}

    def of(self, model: Any, mode: Mode) -> Schema:
        """A reference to the schema of a type of ours; the schema itself of Python's own."""
        if not (is_typeddict(model) or hasattr(model, "model_fields")):
            return self._inside(model, mode)
        name = _name(model.__name__)
        if name not in self._known:
            self._add(name, self._inside(model, mode))
        return {"$ref": f"{_REFERENCE}{name}"}

    def inline(self, model: type[BaseModel]) -> Schema:
        """The schema of a model itself, whose members stand elsewhere: the parameters of a query."""
        return self._inside(model, "validation")

    def sparse(self, model: Any) -> Schema:
        """A reference to what `fields` leaves of a document: any of its members, and of theirs."""
        whole = self._known[_name(model.__name__)]
        name = f"Sparse{_name(model.__name__)}"
        self._known.setdefault(name, self._loose(whole) | {"description": "What `fields` leaves of it."})
        return {"$ref": f"{_REFERENCE}{name}"}

    def examples(self, schema: Schema) -> list[Any]:
        """Examples of what such a schema describes; of a list, of the first of its alternatives, from its parts."""
        if "$ref" in schema:
            return list(self._named(schema).get("examples", ()))
        if "anyOf" in schema:
            return self.examples(schema["anyOf"][0])
        items = schema.get("properties", {}).get("data", {}).get("items")
        return [{"data": self.examples(items)[:1], "next_cursor": None}] if items else schema.get("examples", [])

    def all(self) -> dict[str, Schema]:
        """Every schema by name."""
        return {name: self._known[name] for name in sorted(self._known)}

    def _inside(self, model: Any, mode: Mode) -> Schema:
        schema = TypeAdapter(model).json_schema(mode=mode, ref_template=f"{_REFERENCE}{{model}}")
        text = json.dumps(schema).replace('Document"', '"')  # the names of our types, not those of their members
        told: Schema = _plain(json.loads(text))
        for name, inner in told.pop("$defs", {}).items():
            self._add(name, inner)
        return told

    def _add(self, name: str, schema: Schema) -> None:
        if schema.pop(BY_JOB_TYPE, False) and self._registry.offered():
            schema = self._by_job_type(name, schema)
        if self._known.setdefault(name, schema) != schema:
            raise ValueError(f"Two schemas are called {name}; rename one of the types.")

    def _by_job_type(self, name: str, common: Schema) -> Schema:
        """A submission as a union that `type` discriminates."""
        kinds = {known.name: f"{name}.{known.name}" for known in self._registry.offered()}
        for known in self._registry.offered():
            self._known[kinds[known.name]] = self._of_type(known, common)
        references = {job_type: f"{_REFERENCE}{kind}" for job_type, kind in kinds.items()}
        return {
            "description": common.get("description", ""),
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "type", "mapping": references},
            "examples": common.get("examples", []),
        }

    def _of_type(self, known: JobType, common: Schema) -> Schema:
        args = f"Args.{known.name}"
        if args not in self._known:
            self._known[args] = _plain(known.args_model.model_json_schema(ref_template=f"{_REFERENCE}{args}.{{model}}"))
            for name, inner in self._known[args].pop("$defs", {}).items():
                self._known[f"{args}.{name}"] = inner
        properties = common["properties"] | {
            "type": {"const": known.name},
            "args": {"$ref": f"{_REFERENCE}{args}"},
            "max_attempts": _at_most(known.max_attempts_limit, common["properties"]["max_attempts"]),
            "timeout_seconds": _at_most(_seconds(known.timeout_limit), common["properties"]["timeout_seconds"]),
        }
        needed = [] if _takes_nothing(known) else ["args"]
        rest = {member: value for member, value in common.items() if member != "examples"}
        return rest | {
            "description": known.description.partition("\n\n")[0],
            "properties": properties,
            "required": [*common.get("required", ()), *needed],
        }

    def _loose(self, schema: Schema) -> Schema:
        """A document's schema without its duties, down to those of its members."""
        if "$ref" in schema and self._named(schema).get("type") == "object":
            return self._loose(self._named(schema))
        kept = {name: value for name, value in schema.items() if name not in {"required", "examples"}}
        if "anyOf" in kept:
            kept["anyOf"] = [self._loose(choice) for choice in kept["anyOf"]]
        if "items" in kept:
            kept["items"] = self._loose(kept["items"])
        if "properties" in kept:
            kept["properties"] = {name: self._loose(inner) for name, inner in kept["properties"].items()}
            kept["minProperties"] = 1
        return kept

    def _named(self, reference: Schema) -> Schema:
        return self._known[reference["$ref"].removeprefix(_REFERENCE)]


def _name(type_name: str) -> str:
    return type_name.removesuffix("Document")


def _takes_nothing(known: JobType) -> bool:
    """Whether a job of the type may be submitted without arguments."""
    try:
        known.parse({})
    except Exception:  # noqa: BLE001 - a model's own validator may raise anything
        return False
    return True


def _at_most(limit: int, schema: Schema) -> Schema:
    choices = [choice | {"maximum": limit} if choice != {"type": "null"} else choice for choice in schema["anyOf"]]
    return schema | {"anyOf": choices}


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _plain(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name in _AS_THEY_ARE else _plain(value)
        for name, value in schema.items()
        if name != "title" or not isinstance(value, str)
    }
