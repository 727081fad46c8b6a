"""JSON Schemas in Rust: linear regular expressions, and no reference leaves the schema."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from runtime.domain.errors import InvalidJsonSchema
from runtime.domain.services.schemas import AnswerSchema, SchemaCompiler
from runtime.domain.value_objects.json_schemas import check_schema, resolved

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MOST_KEPT = 256
"""Schemas of common size; a large one, or one with patterns, counts for several."""
_BYTES_OF_ONE = 2_000
MOST_PROBLEMS = 5
_MOST_LOOKED_AT = 2_000
"""Pairs of a schema and a value in one search for what is wrong."""
_LARGEST_REGEX = 1 << 18
_LARGEST_DFA = 1 << 21
"""Bytes of a compiled one, and of the states that make matching fast."""
_ELSEWHERE = ("$ref", "allOf", "anyOf", "oneOf", "items", "prefixItems", "$defs", "definitions")
"""Keywords whose schemas are looked at one by one."""

Schema = Mapping[str, Any]


class JsonSchemaCompiler(SchemaCompiler):
    """Keeps the schemas that were asked for last, by their content."""

    def __init__(self, size: int = MOST_KEPT) -> None:
        self._size = size
        self._known: OrderedDict[tuple[bool, bytes], CompiledSchema] = OrderedDict()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._known)

    def compile(self, schema: Schema, name: str, *, strict: bool) -> AnswerSchema:
        text = orjson.dumps(schema)
        key = strict, sha256(text).digest()
        found = self._known.get(key)
        if found is None:
            patterns = check_schema(schema, name, strict=strict)
            found = _compiled(schema, name, 1 + patterns + len(text) // _BYTES_OF_ONE)
            self._known[key] = found
            self._weight += found.weight
            while self._weight > self._size and len(self._known) > 1:
                self._weight -= self._known.popitem(last=False)[1].weight
        self._known.move_to_end(key)
        return found


class CompiledSchema(AnswerSchema):
    def __init__(self, schema: Schema, weight: int) -> None:
        """Raises jsonschema_rs.ValidationError."""
        self.weight = weight
        self._schema = schema
        self._validator = _validator(schema)

    def problems(self, value: object) -> Sequence[str]:
        try:
            if self._validator.is_valid(value):
                return ()
        except ValueError:
            return ["$: it holds text or numbers that can't be read."]
        # The validator's own account of a failed `anyOf` takes exponential time.
        search = _Search(self._schema).problems(self._schema, value, "$")
        try:
            found = list(dict.fromkeys(search))
        except RecursionError:
            found = []
        return found[:MOST_PROBLEMS] or ["$: it does not fit the schema."]


def _compiled(schema: Schema, name: str, weight: int) -> CompiledSchema:
    # 8 MB that only those pay for who ask for structured answers.
    from jsonschema_rs import ValidationError

    try:
        return CompiledSchema(schema, weight)
    except ValidationError as error:
        path = tuple(str(step) for step in error.instance_path)
        raise InvalidJsonSchema(name, path, f"{error.message}.") from error


def _validator(schema: Schema) -> "Validator":
    from jsonschema_rs import RegexOptions, validator_for

    return validator_for(
        dict(schema),
        offline=True,
        validate_formats=True,
        mask="it",
        pattern_options=RegexOptions(_LARGEST_REGEX, _LARGEST_DFA),
    )


class _Search:
    """What is wrong with a value that does not fit; gives up when it has looked at enough."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_LOOKED_AT

    def problems(self, schema: object, value: object, path: str) -> Iterator[str]:
        if schema is False:
            yield f"{path}: nothing is allowed here."
        if not isinstance(schema, Mapping) or self._left <= 0:
            return
        self._left -= 1
        yield from (f"{path}: {message}." for message in _own_problems(schema, value))
        if isinstance(schema.get("$ref"), str):
            yield from self.problems(resolved(self._root, schema["$ref"]), value, path)
        for each in schema.get("allOf", ()):
            yield from self.problems(each, value, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield from self._alternatives(schema[keyword], value, path)
        for step, inner_schema, inner in _children(schema, value):
            yield from self.problems(inner_schema, inner, f"{path}{step}")

    def _alternatives(self, ways: Sequence[object], value: object, path: str) -> Iterator[str]:
        """The problems of the one that comes nearest."""
        found = [list(self.problems(way, value, path)) for way in ways]
        # Nearer is what is wrong further inside.
        if all(found):
            yield from max(found, key=lambda each: (_depth(each[0]), -len(each)))


def _own_problems(schema: Schema, value: object) -> Sequence[str]:
    """Of the keywords that hold no other schema; `additionalProperties` knows its neighbours."""
    own = {key: each for key, each in schema.items() if key not in _ELSEWHERE}
    if isinstance(own.get("properties"), Mapping):
        own["properties"] = dict.fromkeys(own["properties"], True)
    return [error.message for error in _validator(own).iter_errors(value)]


def _children(schema: Schema, value: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name, each in value.items():
            if name in properties:
                yield f".{name}", properties[name], each
    elif isinstance(value, list):
        firsts = schema.get("prefixItems", [])
        for index, each in enumerate(value):
            inner = firsts[index] if index < len(firsts) else schema.get("items", True)
            yield f"[{index}]", inner, each


def _depth(problem: str) -> int:
    path = problem.partition(": ")[0]
    return path.count(".") + path.count("[")
