from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from runtime.domain.errors import FieldProblem
from runtime.domain.value_objects.chat import GenerationOptions
from runtime.templates.config import (
    ConfigProblems,
    GenerationConfig,
    StrictConfig,
    fixed_options,
    problems_of,
)


class Cat(StrictConfig):
    kind: Literal["cat"]
    cat: int = Field(default=1, ge=1, le=9)
    names: list[str] = Field(default=[])


class Dog(StrictConfig):
    kind: Literal["dog"]
    tail_cm: float

    @model_validator(mode="after")
    def _has_a_tail(self) -> "Dog":
        if self.tail_cm < 0:
            raise ValueError("A tail has a length")
        return self


class Range(StrictConfig):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _is_no_empty_range(self) -> "Range":
        if self.low > self.high:
            raise ConfigProblems([FieldProblem("low", "It is above `high`", "less")])
        return self


class Tree(StrictConfig):
    name: str
    children: "list[Tree]" = Field(default=[])


class Everything(StrictConfig):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default=[])
    plain: Cat | Dog | None = None
    mixed: int | list[int] | Literal["auto"] = 1
    level: Literal["low", "high"] | None = None
    by_name: dict[str, Range] = Field(default={})
    limits: Range = Range()
    trees: list[Tree] = Field(default=[])
    ratio: float | None = Field(default=None, gt=0, lt=1)
    code: str = Field(default="ab", min_length=2, max_length=3, pattern="^[a-z]+$")
    numbers: dict[Annotated[str, Field(pattern="^[a-z]$")], int] = Field(default={})
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("It is odd")
        return value


@pytest.mark.parametrize(
    ("config", "path", "message", "expected"),
    [
        ({"ratio": 2}, "ratio", "less than 1", "a number above 0 and below 1"),
        ({"ratio": "x"}, "ratio", "valid number", "a number above 0 and below 1"),
        ({"code": "a"}, "code", "at least 2", "text of 2 to 3 characters matching ^[a-z]+$"),
        ({"level": "mid"}, "level", "'low' or 'high'", "one of low, high"),
        ({"even": 3}, "even", "It is odd", "a whole number"),
        ({"pet": {"kind": "cat", "cat": 10}}, "pet.cat", "less than", "a whole number from 1 to 9"),
        ({"pet": {"kind": "cat", "names": [1]}}, "pet.names.0", "valid string", "text"),
        ({"pet": {"kind": "dog"}}, "pet.tail_cm", "required", "a number"),
        ({"pet": {"kind": "SECRET"}}, "pet.kind", "no such choice", "one of cat, dog"),
        ({"pet": {"kind": "dog", "tail_cm": -1}}, "pet", "has a length", "an object"),
        ({"pet": {}}, "pet.kind", "required", "one of cat, dog"),
        ({"pets": [{"kind": "dog"}]}, "pets.0.tail_cm", "required", "a number"),
        ({"pet": 5}, "pet", "valid dictionary", "an object"),
        ({"mixed": "SECRET"}, "mixed", "wrong kind", "one of auto or a whole number or a list"),
        ({"mixed": [1, "x"]}, "mixed.1", "valid integer", "a whole number"),
        ({"by_name": {"a": {"low": "x"}}}, "by_name.a.low", "valid integer", "a whole number"),
        ({"by_name": {"a": {"low": 2}}}, "by_name.a.low", "above `high`", "less"),
        ({"limits": {"low": 2}}, "limits.low", "above `high`", "less"),
        (
            {"trees": [{"name": "a", "children": [{}]}]},
            "trees.0.children.0.name",
            "required",
            "text",
        ),
        ({"numbers": {"1": 1}}, "numbers.1", "pattern", None),
        ({"numbers": {"a": "x"}}, "numbers.a", "valid integer", "a whole number"),
    ],
)
def test_a_problem_is_told_by_path_and_by_what_the_field_takes(
    config: dict[str, object], path: str, message: str, expected: str | None
) -> None:
    parsed, problems = problems_of(Everything, config)

    assert parsed is None
    problem = next(each for each in problems if each.path == path)
    assert message.lower() in problem.message.lower()
    assert problem.expected == expected
    assert "SECRET" not in str(problems)


def test_an_unknown_field_is_answered_with_the_fields_there_are() -> None:
    _, problems = problems_of(Everything, {"pet": {"kind": "dog", "tail_cm": 1, "tail": 1}})

    assert problems == [
        FieldProblem(
            "pet.tail",
            "There is no such field",
            "one of the fields kind, tail_cm",
            ["kind", "tail_cm"],
        )
    ]


def test_an_unknown_field_at_the_top_is_answered_too() -> None:
    _, problems = problems_of(Tree, {"name": "a", "nam": "b"})

    assert (problems[0].path, problems[0].allowed) == ("nam", ["children", "name"])


def test_values_that_can_be_counted_are_listed() -> None:
    _, problems = problems_of(Everything, {"level": "mid"})

    assert problems[0].allowed == ["low", "high"]


def test_a_value_that_fits_no_alternative_is_one_problem() -> None:
    _, problems = problems_of(Everything, {"mixed": {}})

    assert [problem.path for problem in problems] == ["mixed"]


def test_every_field_at_fault_is_told() -> None:
    _, problems = problems_of(Everything, {"ratio": 5, "even": 1, "other": 1})

    assert [problem.path for problem in problems] == ["ratio", "even", "other"]


def test_members_of_a_plain_union_are_told_without_their_names() -> None:
    _, problems = problems_of(Everything, {"plain": {"kind": "dog"}})

    assert {problem.path for problem in problems} == {"plain.kind", "plain.tail_cm"}


def test_a_problem_of_the_whole_configuration_has_no_path() -> None:
    class Whole(BaseModel):
        @model_validator(mode="after")
        def _never(self) -> "Whole":
            raise ValueError("Not today")

    _, problems = problems_of(Whole, {})

    assert (problems[0].path, problems[0].message) == ("", "Not today")


def test_a_good_configuration_has_no_problem() -> None:
    parsed, problems = problems_of(Everything, {"pet": {"kind": "cat"}})

    assert (parsed, problems) == (Everything(pet=Cat(kind="cat")), ())


def test_filled_options_are_fixed_and_empty_ones_are_not() -> None:
    class Chatty(GenerationConfig):
        stop: list[str] | None = None
        tools: list[str] = Field(default=["calculator"])
        other: int = 1

    assert fixed_options(Chatty(temperature=0, stop=["x"])) == GenerationOptions(
        temperature=0, stop=("x",)
    )
