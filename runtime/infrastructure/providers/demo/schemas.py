"""A value that a JSON Schema accepts, the same one every time."""

import json
import math
from collections.abc import Mapping
from typing import Any

from runtime.domain.errors import UpstreamRefused
from runtime.infrastructure.providers.demo.texts import Hints, holds_words

_WHOLE_TEXT = ("query", "question", "q", "text", "input", "prompt", "message", "content", "answer")
_EXPRESSION = ("expression", "expr", "formula", "calculation")
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_OPTIONAL_UNTIL = 4
"""Depth down to which optional properties and array items are made up too."""
_DEEPEST = 32
_LARGEST = 20_000
"""Values in one instance."""

Schema = Mapping[str, Any]


def instance(schema: Schema, hints: Hints, *, optional: bool) -> Any:  # noqa: ANN401 - any JSON
    """`optional`: also the properties that are not required.

    Honours type, const, enum, default, properties, required, items, prefixItems, minItems,
    maxItems, minimum, maximum, both exclusive ones, multipleOf, minLength, maxLength, format,
    $ref within the schema, allOf, anyOf and oneOf; not pattern, uniqueItems, not and if.
    Raises UpstreamRefused for one that is broken, or asks for very much.
    """
    try:
        return _Maker(schema, hints, optional).make(schema, "", 0)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise UpstreamRefused("The demo model can't follow this JSON Schema.") from None


class _Maker:
    def __init__(self, root: Schema, hints: Hints, optional: bool) -> None:
        self._root = root
        self._hints = hints
        self._optional = optional
        self._made = 0

    def make(self, schema: object, name: str, depth: int) -> Any:  # noqa: ANN401 - any JSON
        self._made += 1
        if self._made > _LARGEST:
            raise ValueError
        if depth > _DEEPEST or not isinstance(schema, Mapping):
            return None
        schema = self._resolved(schema, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            return self._member(schema["enum"])
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                number = self._number(schema, whole=False)
                return int(number) if number.is_integer() else number
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _resolved(self, schema: Schema, depth: int) -> Schema:
        """`schema` with references, alternatives and combinations replaced by one way to go."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**self._at(str(schema["$ref"])), **rest}
            elif "allOf" in schema:
                rest = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    rest = _merged(rest, self._resolved(part, depth))
                schema = rest
            elif "anyOf" in schema or "oneOf" in schema:
                rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
                ways = schema.get("anyOf") or schema.get("oneOf") or [{}]
                schema = _merged(rest, self._chosen(ways, depth))
            else:
                return schema
        return {}

    def _chosen(self, ways: list[Schema], depth: int) -> Schema:
        nulls = [way for way in ways if way.get("type") == "null"]
        others = [way for way in ways if way.get("type") != "null"]
        # A recursive type ends where it may.
        if nulls and (depth >= _OPTIONAL_UNTIL or not others):
            return nulls[0]
        return others[0]

    def _at(self, reference: str) -> Schema:
        """`#/$defs/Name` (RFC 6901); other documents are not fetched."""
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _member(self, members: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        """The one that the text names, else the first."""
        said = self._hints.said
        named = (each for each in members if isinstance(each, str) and holds_words(said, [each]))
        return next(named, members[0])

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        every = self._optional and depth < _OPTIONAL_UNTIL
        names = [name for name in properties if every or name in required]
        names += [name for name in required if name not in properties]
        return {name: self.make(properties.get(name, {}), name, depth + 1) for name in names}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        firsts = schema.get("prefixItems", [])
        least = schema.get("minItems", 0)
        count = max(least, len(firsts), 1 if depth < _OPTIONAL_UNTIL else 0)
        count = min(count, schema.get("maxItems", count))
        items = schema.get("items") or {}
        return [
            self.make(firsts[index] if index < len(firsts) else items, name, depth + 1)
            for index in range(min(count, _LARGEST))
        ]

    def _number(self, schema: Schema, *, whole: bool) -> float:
        step = schema.get("multipleOf") or (1 if whole else 0)
        low = schema.get("minimum", -math.inf)
        if "exclusiveMinimum" in schema:
            low = max(low, schema["exclusiveMinimum"] + (step or 0.5))
        high = schema.get("maximum", math.inf)
        if "exclusiveMaximum" in schema:
            high = min(high, schema["exclusiveMaximum"] - (step or 0.5))
        hint = self._hints.number()
        if hint is None:
            hint = low if low > -math.inf else 1.0
        value = min(max(hint, low), high)
        if step:
            value = math.floor(value / step) * step
            value += step if value < low else 0
        return float(value)

    def _string(self, schema: Schema, name: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        hints = self._hints
        if name.lower() in _EXPRESSION and hints.expression:
            text = hints.expression
        elif name.lower() in _WHOLE_TEXT:
            text = hints.text
        else:
            text = hints.subject or hints.text
        least = schema.get("minLength", 0)
        return text[: schema.get("maxLength")].ljust(min(least, 10_000), "x")


def as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _merged(first: Schema, second: Schema) -> dict[str, Any]:
    merged = {**second, **first}
    for key in ("properties", "$defs"):
        if key in first and key in second:
            merged[key] = {**second[key], **first[key]}
    if "required" in first and "required" in second:
        merged["required"] = [*second["required"], *first["required"]]
    return merged
