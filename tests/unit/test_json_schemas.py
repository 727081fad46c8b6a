"""Which schemas answers may be asked for in, and what is said of answers that do not fit."""

from time import perf_counter
from typing import Any

import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel

from runtime.domain.errors import InvalidJsonSchema
from runtime.domain.services.schemas import AnswerSchema
from runtime.infrastructure.schemas import JsonSchemaCompiler

Json = dict[str, Any]
TEXT: Json = {"type": "string"}


def an_object(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def compiled(schema: Json, *, strict: bool = True) -> AnswerSchema:
    return JsonSchemaCompiler().compile(schema, "x", strict=strict)


def nested(levels: int) -> Json:
    schema = an_object(a=TEXT)
    for _ in range(levels - 1):
        schema = an_object(a=schema)
    return schema


NODE = an_object(value=TEXT, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
IN_DEFS = {
    **an_object(items={"type": "array", "items": {"$ref": "#/$defs/Item"}}),
    "$defs": {"Item": an_object(name=TEXT, parts={"type": "array", "items": {"$ref": "#"}})},
}
TAKEN = [
    an_object(),
    an_object(a={"type": ["string", "null"]}, b={"enum": ["x", "y"]}, c={"const": 1}),
    an_object(a={"type": "string", "pattern": "^a+$", "format": "date", "description": "A day."}),
    an_object(a={"type": "array", "items": {"type": "number", "minimum": 0}, "maxItems": 3}),
    an_object(**{"größe": TEXT, "名前": TEXT}),
    NODE,
    IN_DEFS,
    nested(10),
    an_object(**{f"p{number}": TEXT for number in range(5_000)}),
]
WITHOUT = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
REFUSED: list[tuple[Json, str]] = [
    ({}, "context=(), schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
    ({"type": "array", "items": TEXT}, "got 'type: \"array\"'"),
    ({"anyOf": [an_object(), TEXT], "type": "object"}, "'anyOf' is not permitted"),
    (WITHOUT, "context=(), 'additionalProperties' is required to be supplied and to be false."),
    (
        an_object(a=WITHOUT),
        "In context=('properties', 'a'), 'additionalProperties' is required to be supplied and to "
        "be false.",
    ),
    (an_object(a={"type": "array", "items": WITHOUT}), "('properties', 'a', 'items'), 'additional"),
    (an_object(a={"anyOf": [TEXT, WITHOUT]}), "('properties', 'a', 'anyOf', '1'), 'additional"),
    ({**an_object(), "$defs": {"D": WITHOUT}}, "('$defs', 'D'), 'additionalProperties'"),
    (an_object(a={**WITHOUT, "additionalProperties": TEXT}), "'additionalProperties' is required"),
    (
        {**an_object(a=TEXT, b=TEXT), "required": ["a"]},
        "'required' is required to be supplied and to be an array including every key in "
        "properties. Missing 'b'.",
    ),
    ({**an_object(a=TEXT), "required": ["a", "z"]}, "'z', which is no property"),
    (an_object(a={}), "('properties', 'a'), schema must have a 'type' key."),
    (an_object(a={"type": "array"}), "array schema missing items."),
    *(
        (an_object(a={"type": "object", keyword: value}), f"'{keyword}' is not permitted.")
        for keyword, value in {
            "allOf": [TEXT],
            "oneOf": [TEXT],
            "not": TEXT,
            "if": TEXT,
            "patternProperties": {},
            "dependentRequired": {},
            "unevaluatedProperties": False,
            "uniqueItems": True,
            "default": "x",
            "prefixItems": [TEXT],
            "minProperties": 1,
        }.items()
    ),
    (an_object(a={"$ref": "https://example.com/s.json"}), "must be '#' or begin with '#/'"),
    (an_object(a={"$ref": "file:///etc/passwd"}), "must be '#' or begin with '#/'"),
    (an_object(a={"$ref": "#/$defs/Nothing"}), "'#/$defs/Nothing' can't be resolved"),
    (nested(11), "nested deeper than 10 levels"),
    (an_object(**{f"p{number}": TEXT for number in range(5_001)}), "more than 5000 properties"),
    (an_object(a={"enum": list(range(1_001))}), "more than 1000 enum values"),
    (an_object(a={"const": "x" * 120_001}), "longer than 120000 characters"),
    (an_object(a={"type": "strin"}), "('properties', 'a', 'type')"),
    (an_object(a={"type": "string", "pattern": "("}), "regex"),
]
LOOSE_REFUSED: list[tuple[Json, str]] = [
    ({"type": "strin"}, "('type',)"),
    ({"properties": []}, "('properties',)"),
    ({"required": "a"}, "('required',)"),
    ({"$ref": "http://127.0.0.1:9/x.json"}, "must be '#' or begin with '#/'"),
    ({"properties": {"a": {"$ref": "other.json"}}}, "('properties', 'a'), '$ref'"),
    ({"properties": {"a": {"$id": "http://example.com/", "type": "string"}}}, "'$id'"),
    ({"$dynamicRef": "#a"}, "'$dynamicRef'"),
    ({"$schema": "http://127.0.0.1:9/schema"}, "'$schema' must be one of"),
    ({"pattern": "(?=a)b"}, "regex"),
    ({"items": [{"pattern": f"a{n}"} for n in range(101)]}, "more than 100 different patterns"),
    ({"patternProperties": {f"a{n}": TEXT for n in range(101)}}, "more than 100 different"),
    ({"pattern": "(((a{100}){100}){100}){100}"}, "regex"),
]


@pytest.mark.parametrize("schema", TAKEN, ids=range(len(TAKEN)))
def test_strict_mode_takes_what_openai_s_takes(schema: Json) -> None:
    compiled(schema)


@pytest.mark.parametrize(("schema", "why"), REFUSED, ids=range(len(REFUSED)))
def test_strict_mode_refuses_the_rest_and_names_the_place(schema: Json, why: str) -> None:
    with pytest.raises(InvalidJsonSchema) as refusal:
        compiled(schema)

    assert why in str(refusal.value)
    assert str(refusal.value).startswith("Invalid schema for response_format 'x': In context=(")
    assert refusal.value.param == "response_format"


@pytest.mark.parametrize(("schema", "why"), LOOSE_REFUSED, ids=range(len(LOOSE_REFUSED)))
def test_without_strict_it_has_to_be_a_json_schema_that_stands_alone(
    schema: Json, why: str
) -> None:
    with pytest.raises(InvalidJsonSchema) as refusal:
        compiled(schema, strict=False)

    assert why in str(refusal.value)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({}, None, ...),
        (WITHOUT, {"a": "x", "b": 1}, {"a": 1}),
        ({"oneOf": [TEXT, {"type": "integer"}]}, 3, 3.5),
        ({"type": "array", "prefixItems": [TEXT], "uniqueItems": True}, ["x", 1], [1]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "contains": TEXT}, ["x"], [1]),
        ({"patternProperties": {"^n_": {"type": "number"}}}, {"n_1": 1}, {"n_1": "x"}),
        ({"type": "string", "format": "date"}, "2026-11-21", "tomorrow"),
    ],
)
def test_without_strict_all_of_json_schema_holds(schema: Json, good: object, bad: object) -> None:
    ready = compiled(schema, strict=False)

    assert ready.problems(good) == ()
    if bad is not ...:
        assert ready.problems(bad)


class Leaf(BaseModel):
    name: str


class Tree(BaseModel):
    leaves: list[Leaf]
    below: "Tree | None"


def test_what_the_sdk_makes_of_a_pydantic_model_is_taken() -> None:
    ready = compiled(to_strict_json_schema(Tree))

    assert ready.problems({"leaves": [{"name": "ä"}], "below": {"leaves": [], "below": None}}) == ()


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (an_object(age={"type": "integer"}), {"age": "x"}, '$.age: it is not of type "integer".'),
        (an_object(a=TEXT), {}, '$: "a" is a required property.'),
        (an_object(), {"zz": 1}, "$: Additional properties are not allowed ('zz' was unexpected)."),
        (IN_DEFS, {"items": [{"name": 1, "parts": []}]}, "$.items[0].name: it is not of type"),
        (NODE, {"value": "", "next": {"value": 1, "next": None}}, "$.next.value: it is not of"),
        (an_object(a={"enum": ["x", "y"]}), {"a": "z"}, '$.a: it is not one of "x" or "y".'),
    ],
)
def test_a_problem_names_its_place_and_not_what_stands_there(
    schema: Json, value: object, problem: str
) -> None:
    assert compiled(schema).problems(value)[0].startswith(problem)


def test_problems_are_few() -> None:
    ready = compiled({"items": TEXT}, strict=False)
    assert len(ready.problems([1] * 10_000)) == 5


def doubled(levels: int) -> Json:
    """Every level is looked at twice by the one above."""
    twice = [{"$ref": f"#/$defs/d{level + 1}"} for level in range(levels) for _ in "12"]
    defs: Json = {
        f"d{level}": an_object(a={"anyOf": twice[2 * level : 2 * level + 2]})
        for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": TEXT}}


@pytest.mark.parametrize(
    "schema",
    [
        doubled(40),
        {"$ref": "#/$defs/0", "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(2_000)}
         | {"2000": TEXT}},
    ],
)  # fmt: skip
def test_a_schema_that_would_take_for_ever_is_refused_at_once(schema: Json) -> None:
    since = perf_counter()
    with pytest.raises(InvalidJsonSchema, match="in more than 50000 ways"):
        compiled(schema, strict=False)
    assert perf_counter() - since < 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 50_000 + "b"),
        (doubled(12), {"a": {"a": {"a": 1}}}),
        ({"$ref": "#"}, 1),
        (an_object(a=TEXT), {"a": "\ud800"}),
    ],
)
def test_no_answer_takes_long_to_look_at(schema: Json, value: object) -> None:
    ready = compiled(schema, strict=False)
    since = perf_counter()
    ready.problems(value)
    assert perf_counter() - since < 1


def test_a_recursive_union_is_looked_at_in_no_time() -> None:
    way = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}
    union = {"anyOf": [way, {**way, "required": ["a"]}, TEXT]}
    ready = compiled({"$ref": "#/$defs/n", "$defs": {"n": union}}, strict=False)
    value: object = 1
    for _ in range(80):
        value = {"a": value}
    since = perf_counter()

    assert ready.problems(value)
    assert perf_counter() - since < 1


def test_a_schema_is_compiled_once_and_few_are_kept() -> None:
    schemas = JsonSchemaCompiler(size=2)
    first = schemas.compile(an_object(), "x", strict=True)

    assert schemas.compile(an_object(), "another name", strict=True) is first
    for number in range(5):
        schemas.compile(an_object(**{f"p{number}": TEXT}), "x", strict=False)
    assert len(schemas) == 2


def test_few_schemas_with_many_patterns_are_kept() -> None:
    schemas = JsonSchemaCompiler(size=100)
    for number in range(5):
        items = [{"pattern": f"{number}a{n}"} for n in range(40)]
        schemas.compile({"prefixItems": items}, "x", strict=False)

    assert len(schemas) == 2
