"""A Python function as a tool."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from runtime.domain.services.tools import ToolOutcome, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec

A = TypeVar("A", bound=BaseModel)
READ_ONLY = ToolTraits(read_only=True)


class ToolProblem(Exception):
    """The tool can't do what it was asked; the text tells the model how to ask better."""


@dataclass(frozen=True)
class FunctionTool(Generic[A]):
    name: str
    description: str
    arguments: type[A]
    """Its JSON Schema is what the model reads; it is also what a call is checked against."""
    run: Callable[[A], str]
    """Quick and without I/O: it runs in the event loop. Raises ToolProblem."""
    traits: ToolTraits = READ_ONLY

    @cached_property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.arguments.model_json_schema())

    async def __call__(self, arguments: str) -> ToolOutcome:
        try:
            parsed = self.arguments.model_validate_json(arguments or "{}")
            return ToolOutcome("success", self.run(parsed))
        except ValidationError as error:
            return ToolOutcome("error", explained(error, self.name, self.arguments))
        except ToolProblem as problem:
            return ToolOutcome("error", str(problem))

    def problem(self, arguments: str) -> str | None:
        return problem_of(arguments, self.name, self.arguments)


def problem_of(arguments: str, name: str, model: type[BaseModel]) -> str | None:
    """What is wrong with JSON `arguments`; None: nothing."""
    try:
        model.model_validate_json(arguments or "{}")
    except ValidationError as error:
        return explained(error, name, model)
    return None


def explained(error: ValidationError, name: str, model: type[BaseModel]) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    problems = "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in found
    )
    names = ", ".join(field.alias or own for own, field in model.model_fields.items())
    takes = f"takes a JSON object with: {names}" if names else "takes an empty JSON object"
    return f"Wrong arguments: {problems}. '{name}' {takes}."
