"""From a `Config` to checked values, to problems a person can act on, to fixed call options."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from runtime.domain.errors import FieldProblem
from runtime.domain.value_objects.chat import GenerationOptions
from runtime.domain.value_objects.secrets import MASK, pointer, replaced
from runtime.templates.json_schema import (
    Schema,
    alternatives,
    describe,
    discriminator,
    literals,
    resolve,
)

M = TypeVar("M", bound=BaseModel)

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


class ConfigProblems(ValueError):
    """For a validator that looks at several fields: blames each by its path in that model."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{each.path}: {each.message}" for each in self.problems))


def fixed_options(config: BaseModel) -> GenerationOptions:
    """The call options that `config` has a value for, under the option's own name."""
    names = _OPTION_NAMES & type(config).model_fields.keys()
    values = {name: getattr(config, name) for name in names}
    if isinstance(stop := values.get("stop"), list):
        values["stop"] = tuple(stop)
    return GenerationOptions(**{name: value for name, value in values.items() if value is not None})


def problems_of(
    model: type[M], config: Mapping[str, object]
) -> tuple[M | None, Sequence[FieldProblem]]:
    """The parsed configuration, or every field at fault; never the value that was sent."""
    try:
        return model.model_validate(dict(config)), ()
    except ValidationError as error:
        schema = model.model_json_schema()
        hidden = set(_sent_secrets(config, schema))
        found = [
            replace(problem, message=_without(hidden, problem.message))
            for each in error.errors(include_url=False, include_input=False)
            for problem in _problems(schema, each)
        ]
        return None, list({(each.path, each.message): each for each in found}.values())


def secrets_of(model: BaseModel) -> Mapping[str, str]:
    """The `SecretStr` and `SecretBytes` values that are not empty, by JSON Pointer."""
    return dict(_secrets(model.model_dump(), model.model_dump(mode="json"), ()))


def plain_json(model: BaseModel) -> Mapping[str, object]:
    """As JSON, with the secrets that pydantic would mask."""
    return replaced(model.model_dump(mode="json"), secrets_of(model))


def _secrets(value: Any, shown: Any, at: tuple[object, ...]) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """`shown`: the same value as JSON, where keys are texts."""
    match value, shown:
        case SecretStr(), str():
            text = value.get_secret_value()
            if text:
                yield pointer(at), text
        case SecretBytes(), str():
            if value.get_secret_value():
                yield pointer(at), value.get_secret_value().decode()
        case dict(), dict() if len(value) == len(shown):
            for each, (name, shown_each) in zip(value.values(), shown.items(), strict=True):
                yield from _secrets(each, shown_each, (*at, name))
        case list() | tuple(), list() if len(value) == len(shown):
            for index, (each, shown_each) in enumerate(zip(value, shown, strict=True)):
                yield from _secrets(each, shown_each, (*at, index))


def _sent_secrets(config: object, schema: Schema) -> Iterator[str]:
    """What was sent for secret fields, wherever it stands: a validator may quote it."""
    names = set(_secret_names(schema))
    if names:
        yield from _texts_under(names, config, inside=False)


def _secret_names(node: object) -> Iterator[str]:
    match node:
        case Mapping():
            for name, declared in node.get("properties", {}).items():
                if '"writeOnly"' in json.dumps(declared):
                    yield name
            for each in node.values():
                yield from _secret_names(each)
        case list():
            for each in node:
                yield from _secret_names(each)


def _texts_under(names: set[str], value: object, *, inside: bool) -> Iterator[str]:
    match value:
        case str() if inside and value:
            yield value
        case Mapping():
            for name, each in value.items():
                yield from _texts_under(names, each, inside=inside or name in names)
        case list():
            for each in value:
                yield from _texts_under(names, each, inside=inside)


def _without(hidden: Iterable[str], message: str) -> str:
    for each in sorted(hidden, key=len, reverse=True):
        message = message.replace(each, MASK)
    return message


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: its path as people write it, and the schema there and around it."""

    path: str
    node: Schema
    around: Sequence[Schema]
    wrong_kind: bool
    """The value is none of the alternatives; one of them is what pydantic complains about."""


def _problems(schema: Schema, error: ErrorDetails) -> Iterator[FieldProblem]:
    place = _locate(schema, error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigProblems):
        for problem in cause.problems:
            path = ".".join(part for part in (place.path, problem.path) if part)
            yield replace(problem, path=path)
        return
    match error["type"]:
        case "extra_forbidden":
            names = sorted({name for each in place.around for name in each.get("properties", ())})
            hint = "one of the fields " + ", ".join(names)
            yield FieldProblem(place.path, "There is no such field", hint, names)
        case "missing":
            yield _problem(schema, place, "This field is required")
        case "union_tag_not_found" | "union_tag_invalid" if found := discriminator(
            schema, place.node
        ):
            # Pydantic's own message repeats the value.
            name, tags = found
            path = f"{place.path}.{name}" if place.path else name
            missing = error["type"] == "union_tag_not_found"
            text = "This field is required" if missing else "There is no such choice"
            yield FieldProblem(path, text, "one of " + ", ".join(tags), list(tags))
        case kind if place.wrong_kind and kind not in ("value_error", "assertion_error"):
            yield _problem(schema, place, "The value is of the wrong kind")
        case _:
            yield _problem(schema, place, error["msg"].removeprefix("Value error, "))


def _problem(schema: Schema, place: _Place, message: str) -> FieldProblem:
    options = [literals(each) for each in alternatives(schema, place.node)]
    allowed = [str(value) for each in options for value in each] if all(options) else []
    return FieldProblem(place.path, message, describe(schema, place.node), allowed or None)


def _locate(schema: Schema, loc: Sequence[int | str]) -> _Place:
    """Follows pydantic's `loc`, which names the alternative it tried after each union."""
    node: Schema = schema
    options = around = alternatives(schema, schema)
    parts: list[str] = []
    chosen = False
    for part in loc:
        if len(options) > 1 and not chosen:
            options, chosen = _choose(schema, node, options, str(part)), True
        elif part == "[key]":
            node = {}
        else:
            around, node = options, _step(options, part)
            options, chosen = alternatives(schema, node), False
            parts.append(str(part))
    return _Place(".".join(parts), node, around, wrong_kind=chosen)


def _choose(schema: Schema, union: Schema, options: list[Schema], tag: str) -> list[Schema]:
    """The member of a union that pydantic calls `tag`; all of them when it can't be told."""
    found = discriminator(schema, union)
    if found and tag in found[1]:
        return [resolve(schema, {"$ref": found[1][tag]})]
    return [each for each in options if each.get("title") == tag] or options


def _step(options: Sequence[Schema], part: int | str) -> Schema:
    for option in options:
        if isinstance(part, int) and "items" in option:
            return _as_schema(option["items"])
        if part in option.get("properties", {}):
            return _as_schema(option["properties"][part])
    return next((schema for each in options if (schema := _of_any_key(each))), {})


def _of_any_key(option: Schema) -> Schema:
    """What a mapping holds under each of its keys."""
    patterns: Mapping[str, object] = option.get("patternProperties", {})
    return _as_schema(option.get("additionalProperties") or next(iter(patterns.values()), {}))


def _as_schema(value: object) -> Schema:
    """A schema may also be written true or false."""
    return value if isinstance(value, Mapping) else {}
