"""Which JSON Schemas an answer may be asked for in: pure rules, before anything is compiled."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from runtime.domain.errors import InvalidJsonSchema

MAX_NESTING = 10
MAX_PROPERTIES = 5_000
MAX_ENUM_VALUES = 1_000
MAX_CHARACTERS = 120_000
"""Of the names and of the texts in `enum` and `const`, together."""
MAX_PATTERNS = 100
"""Different ones: a pattern is written in a few characters and may take milliseconds to prepare."""
MAX_PATHS = 50_000
"""Through a schema with every reference written out: checking an answer takes that long."""

DIALECTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-04/schema#",
)

_STRICT_KEYWORDS = frozenset(
    {"type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"}
    | {"$schema", "$comment", "properties", "required", "additionalProperties"}
    | {"items", "minItems", "maxItems", "pattern", "format", "minLength", "maxLength"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLES = (
    *("items", "additionalItems", "unevaluatedItems", "contains", "not", "if", "then", "else"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
)

Path = tuple[str, ...]


class Refuse(Protocol):
    def __call__(self, path: Path, why: str) -> InvalidJsonSchema: ...


def check_schema(schema: Mapping[str, Any], name: str, *, strict: bool) -> int:
    """The number of its patterns, which are what is dear to keep.

    Raises InvalidJsonSchema. That it is a JSON Schema at all is for a validator to say.
    """

    def refuse(path: Path, why: str) -> InvalidJsonSchema:
        return InvalidJsonSchema(name, path, why)

    if schema.get("$schema", DIALECTS[0]) not in DIALECTS:
        raise refuse((), f"'$schema' must be one of {', '.join(DIALECTS)}.")
    if strict:
        _StrictCheck(refuse).root(schema)
    patterns = _check_parts(schema, refuse)
    try:
        paths = _paths(schema, schema, {}, set())
    except RecursionError:
        paths = MAX_PATHS + 1
    if paths > MAX_PATHS:
        raise refuse((), f"its references lead through it in more than {MAX_PATHS} ways.")
    return patterns


def resolved(root: Mapping[str, Any], reference: str) -> object:
    """What `#` or `#/$defs/Name` (RFC 6901) stands for in `root`; None where there is nothing."""
    found: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


class _StrictCheck:
    """What OpenAI documents for structured outputs under "Supported schemas"."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse
        self._properties = self._enum_values = self._characters = 0

    def root(self, schema: Mapping[str, Any]) -> None:
        if schema.get("type") != "object":
            kind = schema.get("type")
            raise self._refuse(
                (), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
            )
        for keyword in ("anyOf", "enum", "const", "$ref"):
            if keyword in schema:
                raise self._refuse((), f"'{keyword}' is not permitted at the top level.")
        self._schema(schema, (), 0)

    def _schema(self, schema: object, path: Path, depth: int) -> None:
        if not isinstance(schema, Mapping):
            raise self._refuse(path, "a schema must be an object.")
        for keyword in schema:
            if keyword not in _STRICT_KEYWORDS:
                raise self._refuse(path, f"'{keyword}' is not permitted.")
        for key in ("$defs", "definitions"):
            for name, each in _mapping(schema.get(key)).items():
                self._count(len(name), path)
                self._schema(each, (*path, key, name), 0)
        self._fixed_values(schema, path)
        types = _types(schema)
        if not types and not {"$ref", "anyOf", "enum", "const"} & schema.keys():
            raise self._refuse(path, "schema must have a 'type' key.")
        for index, each in enumerate(_list(schema.get("anyOf"))):
            self._schema(each, (*path, "anyOf", str(index)), depth)
        if "object" in types or "properties" in schema:
            self._object(schema, path, depth + 1)
        if "array" in types:
            if "items" not in schema:
                raise self._refuse(path, "array schema missing items.")
            self._schema(schema["items"], (*path, "items"), depth)

    def _object(self, schema: Mapping[str, Any], path: Path, depth: int) -> None:
        if depth > MAX_NESTING:
            raise self._refuse(path, f"objects are nested deeper than {MAX_NESTING} levels.")
        if schema.get("additionalProperties") is not False:
            raise self._refuse(
                path, "'additionalProperties' is required to be supplied and to be false."
            )
        properties = _mapping(schema.get("properties"))
        required = dict.fromkeys(
            name for name in _list(schema.get("required")) if isinstance(name, str)
        )
        if missing := [name for name in properties if name not in required]:
            raise self._refuse(
                path,
                "'required' is required to be supplied and to be an array including every key in "
                f"properties. Missing '{missing[0]}'.",
            )
        if extra := [name for name in required if name not in properties]:
            raise self._refuse(path, f"'required' names '{extra[0]}', which is no property.")
        self._properties += len(properties)
        if self._properties > MAX_PROPERTIES:
            raise self._refuse(path, f"there are more than {MAX_PROPERTIES} properties.")
        for name, each in properties.items():
            self._count(len(name), path)
            self._schema(each, (*path, "properties", name), depth)

    def _fixed_values(self, schema: Mapping[str, Any], path: Path) -> None:
        values = [*_list(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
        self._enum_values += len(values)
        if self._enum_values > MAX_ENUM_VALUES:
            raise self._refuse(path, f"there are more than {MAX_ENUM_VALUES} enum values.")
        self._count(sum(len(value) for value in values if isinstance(value, str)), path)

    def _count(self, characters: int, path: Path) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            raise self._refuse(
                path, f"its names and fixed texts are longer than {MAX_CHARACTERS} characters."
            )


def _check_parts(root: Mapping[str, Any], refuse: Refuse) -> int:
    patterns: set[str] = set()
    waiting: list[tuple[Path, Mapping[str, Any]]] = [((), root)]
    while waiting:
        path, schema = waiting.pop()
        _check_reference(root, schema, path, refuse)
        patterns.update(_mapping(schema.get("patternProperties")))
        if isinstance(schema.get("pattern"), str):
            patterns.add(schema["pattern"])
        if len(patterns) > MAX_PATTERNS:
            raise refuse(path, f"there are more than {MAX_PATTERNS} different patterns.")
        waiting += [
            ((*path, *step), each)
            for step, each in _subschemas(schema)
            if isinstance(each, Mapping)
        ]
    return len(patterns)


def _check_reference(
    root: Mapping[str, Any], schema: Mapping[str, Any], path: Path, refuse: Refuse
) -> None:
    """A reference is a pointer into the schema itself: nothing is fetched, nothing renamed."""
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not (reference == "#" or reference[:2] == "#/"):
        raise refuse(path, "'$ref' must be '#' or begin with '#/': nothing else is followed.")
    if not isinstance(resolved(root, reference), Mapping | bool):
        raise refuse(path, f"reference '{reference}' can't be resolved.")
    for keyword in ("$dynamicRef", "$recursiveRef", *(["$id", "id"] if path else [])):
        if isinstance(schema.get(keyword), str):
            raise refuse(path, f"'{keyword}' is not permitted here.")


def _paths(root: Mapping[str, Any], schema: object, known: dict[int, int], open_: set[int]) -> int:
    """Ways from `schema` to its ends, where a schema within itself is an end."""
    if not isinstance(schema, Mapping):
        return 1
    at = id(schema)
    if at in open_:
        return 1
    if at not in known:
        open_.add(at)
        inner = [each for step, each in _subschemas(schema) if step[0] not in _DEFINITIONS]
        if isinstance(reference := schema.get("$ref"), str):
            inner.append(resolved(root, reference))
        known[at] = min(1 + sum(_paths(root, each, known, open_) for each in inner), MAX_PATHS + 1)
        open_.discard(at)
    return known[at]


_DEFINITIONS = ("$defs", "definitions")


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Path, object]]:
    for key in _MAPS:
        for name, each in _mapping(schema.get(key)).items():
            yield (key, name), each
    for key in (*_LISTS, "items"):
        for index, each in enumerate(_list(schema.get(key))):
            yield (key, str(index)), each
    for key in _SINGLES:
        if isinstance(schema.get(key), Mapping):
            yield (key,), schema[key]


def _types(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type", [])
    names = given if isinstance(given, list) else [given]
    return [name for name in names if isinstance(name, str)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
