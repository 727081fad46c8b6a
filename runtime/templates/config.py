"""From a `Config` to checked values, to problems a person can act on, to fixed call options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.domain.errors import FieldProblem
from runtime.domain.value_objects.chat import GenerationOptions

M = TypeVar("M", bound=BaseModel)
Schema = Mapping[str, Any]

_OPTION_NAMES = frozenset(option.name for option in fields(GenerationOptions)) - {"tools"}


class StrictConfig(BaseModel):
    """A base for `Config`: frozen, and no field that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerationConfig(StrictConfig):
    """Blanks for the model's options. One that is filled is fixed: callers can't change it."""

    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Randomness of the answers. Empty: the caller decides.",
        json_schema_extra={"section": "Model"},
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the likeliest tokens to choose from. Empty: the caller decides.",
        json_schema_extra={"section": "Model"},
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Longest answer, in tokens. Empty: the caller decides.",
        json_schema_extra={"section": "Model"},
    )


def fixed_options(config: BaseModel) -> GenerationOptions:
    """The call options that `config` has a value for, under the option's own name."""
    names = _OPTION_NAMES & type(config).model_fields.keys()
    values = {name: getattr(config, name) for name in names}
    return GenerationOptions(**{name: value for name, value in values.items() if value is not None})


def problems_of(
    model: type[M], config: Mapping[str, object]
) -> tuple[M | None, Sequence[FieldProblem]]:
    """The parsed configuration, or every field at fault; never the value that was sent."""
    try:
        return model.model_validate(dict(config)), ()
    except ValidationError as error:
        schema = model.model_json_schema()
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return None, [_problem(schema, each["loc"], each["type"], each["msg"]) for each in found]


def _problem(schema: Schema, loc: Sequence[int | str], kind: str, message: str) -> FieldProblem:
    path, target, parent = _walk(schema, loc)
    if kind == "extra_forbidden":
        names = sorted(parent.get("properties", {}))
        return FieldProblem(
            path, "There is no such field", "one of the fields " + ", ".join(names), names
        )
    text = message.removeprefix("Value error, ")
    if kind == "missing":
        text = "This field is required"
    allowed = [str(value) for value in _enum(target)] or None
    return FieldProblem(path, text, describe(target), allowed)


def _walk(schema: Schema, loc: Sequence[int | str]) -> tuple[str, Schema, Schema]:
    """The path without pydantic's union tags, the schema there, and the one around it."""
    node = parent = _resolve(schema, schema)
    parts: list[str] = []
    for part in loc:
        if isinstance(part, int):
            parent, node = node, _resolve(schema, _branch(schema, node, "items").get("items", {}))
        else:
            around = _branch(schema, node, "properties", part)
            properties = around.get("properties", {})
            if part not in properties and around is not node and not properties:
                continue
            if part not in properties and _is_tag(schema, node):
                continue
            parent, node = around, _resolve(schema, properties.get(part, {}))
        parts.append(str(part))
    return ".".join(parts), node, parent


def _is_tag(schema: Schema, node: Schema) -> bool:
    return "anyOf" in node or "oneOf" in node


def _branch(schema: Schema, node: Schema, key: str, name: str | None = None) -> Schema:
    for option in (node, *(_resolve(schema, each) for each in _alternatives(node))):
        if key in option and (name is None or name in option[key]):
            return option
    return node


def _alternatives(node: Schema) -> Iterator[Schema]:
    yield from node.get("anyOf", ())
    yield from node.get("oneOf", ())


def _resolve(schema: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        node = schema.get("$defs", {}).get(name, {})
    return node


def _enum(node: Schema) -> Sequence[object]:
    if "const" in node:
        return [node["const"]]
    if "enum" in node:
        return list(node["enum"])
    return [value for each in _alternatives(node) for value in _enum(each)]


def describe(node: Schema) -> str | None:
    """What a field may take, in words: `a whole number from 1 to 10`."""
    if values := _enum(node):
        return "one of " + ", ".join(str(value) for value in values)
    options = [text for each in _alternatives(node) if (text := describe(each))]
    if options:
        return " or ".join(dict.fromkeys(options))
    match node.get("type"):
        case "null":
            return "nothing"
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number" + _range(node, "minimum", "maximum")
        case "number":
            return "a number" + _range(node, "minimum", "maximum")
        case "string":
            pattern = f" matching {node['pattern']}" if "pattern" in node else ""
            return "text" + _range(node, "minLength", "maxLength", " characters") + pattern
        case "array":
            return "a list" + _range(node, "minItems", "maxItems", " items")
        case "object":
            return "an object"
    return None


def _range(node: Schema, low: str, high: str, unit: str = "") -> str:
    exclusive_low = node.get("exclusiveMinimum")
    exclusive_high = node.get("exclusiveMaximum")
    start, end = node.get(low), node.get(high)
    if exclusive_low is not None:
        start = f"above {exclusive_low}"
        return f" {start}" + (f" and up to {end}" if end is not None else "")
    if exclusive_high is not None:
        return (f" from {start}" if start is not None else "") + f" below {exclusive_high}"
    if start is not None and end is not None:
        return f" from {start} to {end}{unit}" if not unit else f" of {start} to {end}{unit}"
    if start is not None:
        return f" of at least {start}{unit}"
    if end is not None:
        return f" of at most {end}{unit}"
    return ""
