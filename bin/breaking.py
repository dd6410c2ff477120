"""Tells what in a new OpenAPI document would break a client of the old one.

What a client sends may only become freer, what it receives may only become more; so the two are compared in
opposite directions; only to a list of values that are received some may come, as clients are told to expect. Words
and examples count for nothing. A change that is not understood counts as one that breaks.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_WORDS = {"description", "examples", "example", "default", "discriminator", "format", "summary", "deprecated"}
_UPPER = ("maximum", "maxLength", "maxItems", "maxProperties", "exclusiveMaximum")
_LOWER = ("minimum", "minLength", "minItems", "minProperties", "exclusiveMinimum")
_PARTS = {"properties", "items", "additionalProperties", "anyOf", "oneOf", "required", "enum", "const", "type", "$ref"}
DEEPEST = 40


def breaking(old: Schema, new: Schema) -> list[str]:
    """Everything that breaks, each with its place; nothing once the first number of the version has grown."""
    if _major(new) > _major(old):
        return []
    return list(_Comparison(old, new).paths())


def _major(document: Schema) -> int:
    return int(document["info"]["version"].partition(".")[0])


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new

    def paths(self) -> Iterator[str]:
        for path, methods in self._old["paths"].items():
            for method, before in methods.items():
                place = f"{method.upper()} {path}"
                after = self._new["paths"].get(path, {}).get(method)
                if after is None:
                    yield f"{place}: is gone"
                else:
                    yield from self._operation(place, before, after)

    def _operation(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        if not _scopes(after) <= _scopes(before):
            yield f"{place}: needs other scopes"
        yield from self._parameters(place, before, after)
        yield from self._body(f"{place}: body", before.get("requestBody"), after.get("requestBody"))
        for status, answer in before["responses"].items():
            if status not in after["responses"]:
                yield f"{place}: no longer answers {status}"
            elif status < "400":
                yield from self._answer(f"{place}: {status}", answer, after["responses"][status])
            else:
                yield from self._problems(f"{place}: {status}", answer, after["responses"][status])

    def _parameters(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        known = {(one["in"], one["name"]): one for one in before.get("parameters", ())}
        given = {(one["in"], one["name"]): one for one in after.get("parameters", ())}
        for key, one in known.items():
            where = f"{place}: {key[0]} {key[1]}"
            if key not in given:
                yield f"{where}: is gone"
            else:
                yield from self._schema(where, one["schema"], given[key]["schema"], sent=True)
        for key, one in given.items():
            if one.get("required") and not known.get(key, {}).get("required"):
                yield f"{place}: {key[0]} {key[1]}: is required now"

    def _body(self, place: str, before: Schema | None, after: Schema | None) -> Iterator[str]:
        if before is None or after is None:
            if after is not None and after.get("required"):
                yield f"{place}: is required now"
            return
        for media_type, content in before["content"].items():
            if media_type not in after["content"]:
                yield f"{place}: {media_type} is no longer taken"
            else:
                yield from self._schema(place, content["schema"], after["content"][media_type]["schema"], sent=True)

    def _answer(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        before, after = self._resolved(before, self._old), self._resolved(after, self._new)
        for name in before.get("headers", {}).keys() - after.get("headers", {}).keys():
            yield f"{place}: header {name} is gone"
        for media_type, content in before.get("content", {}).items():
            if media_type not in after.get("content", {}):
                yield f"{place}: {media_type} is no longer answered"
            else:
                yield from self._schema(place, content["schema"], after["content"][media_type]["schema"], sent=False)

    def _problems(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        told = [self._codes(answer, of) for answer, of in ((before, self._old), (after, self._new))]
        for code in sorted(told[0] - told[1]):
            yield f"{place}: {code} is no longer told"

    def _codes(self, answer: Schema, document: Schema) -> set[str]:
        contents = self._resolved(answer, document).get("content", {})
        return set(contents.get("application/problem+json", {}).get("examples", ()))

    def _schema(self, place: str, before: Any, after: Any, *, sent: bool, depth: int = 0) -> Iterator[str]:
        before, after = self._resolved(before, self._old), self._resolved(after, self._new)
        if (before == after and "$ref" not in str(before)) or depth > DEEPEST:
            return
        if not isinstance(before, dict) or not isinstance(after, dict):
            # `true` takes anything, `false` nothing.
            if before != after and (bool(after) if not sent else not after):
                yield f"{place}: was {before}, is {after}"
            return
        yield from self._own(place, before, after, sent=sent)
        yield from self._members(place, before, after, sent=sent, depth=depth)
        yield from self._choices(place, before, after, sent=sent, depth=depth)
        for inner in ("items", "additionalProperties"):
            if inner in before or inner in after:
                pair = (before.get(inner, True), after.get(inner, True))
                yield from self._schema(f"{place}/{inner}", *pair, sent=sent, depth=depth + 1)

    def _own(self, place: str, before: Schema, after: Schema, *, sent: bool) -> Iterator[str]:
        """The schema's own words: its type, its values, its bounds."""
        # In what is sent, the new must hold all that the old held; in what is received, the other way round.
        wide, narrow = (after, before) if sent else (before, after)
        if "type" in wide and not _types(narrow) <= _types(wide):
            yield f"{place}: type was {before.get('type')}, is {after.get('type')}"
        olds, news = _values(before), _values(after)
        if (news is not None and (olds is None or not olds <= news)) if sent else (olds is not None and news is None):
            yield f"{place}: values were {_listed(olds)}, are {_listed(news)}"
        elif olds is not None and news is not None and not olds <= news:
            yield f"{place}: no more {_listed(olds - news)}"
        for name in _UPPER:
            if name in wide and not narrow.get(name, float("inf")) <= wide[name]:
                yield f"{place}: {name} was {before.get(name)}, is {after.get(name)}"
        for name in _LOWER:
            if name in wide and not narrow.get(name, float("-inf")) >= wide[name]:
                yield f"{place}: {name} was {before.get(name)}, is {after.get(name)}"
        for name in sorted((before.keys() | after.keys()) - _WORDS - _PARTS - {*_UPPER, *_LOWER}):
            if not name.startswith("x-") and before.get(name) != after.get(name) and name in wide:
                yield f"{place}: {name} was {before.get(name)}, is {after.get(name)}"

    def _members(self, place: str, before: Schema, after: Schema, *, sent: bool, depth: int) -> Iterator[str]:
        known, given = before.get("properties", {}), after.get("properties", {})
        for name in known.keys() - given.keys():
            yield f"{place}/{name}: is gone"
        for name in known.keys() & given.keys():
            yield from self._schema(f"{place}/{name}", known[name], given[name], sent=sent, depth=depth + 1)
        needed, was_needed = set(after.get("required", ())), set(before.get("required", ()))
        for name in sorted(needed - was_needed if sent else was_needed - needed):
            yield f"{place}/{name}: {'is required now' if sent else 'may be missing now'}"

    def _choices(self, place: str, before: Schema, after: Schema, *, sent: bool, depth: int) -> Iterator[str]:
        """Each alternative of the narrower side must fit one of the wider."""
        for word in ("anyOf", "oneOf"):
            if word not in before and word not in after:
                continue
            olds, news = before.get(word, [before]), after.get(word, [after])
            for one in olds if sent else news:
                others = news if sent else olds
                pairs = [(one, other) if sent else (other, one) for other in others]
                found = [list(self._schema(place, *pair, sent=sent, depth=depth + 1)) for pair in pairs]
                if all(found):
                    yield min(found, key=len)[0]

    def _resolved(self, schema: Any, document: Schema) -> Any:
        while isinstance(schema, dict) and "$ref" in schema:
            found: Any = document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema


def _scopes(operation: Schema) -> set[str]:
    return {scope for way in operation.get("security", ()) for scopes in way.values() for scope in scopes}


def _listed(values: set[Any] | None) -> str:
    return "anything" if values is None else ", ".join(sorted(map(str, values)))


def _types(schema: Schema) -> set[str]:
    given = schema.get("type")
    if given is None:
        return {"anything"}
    return {given} if isinstance(given, str) else set(given)


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None
