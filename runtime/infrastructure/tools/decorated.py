"""A typed function as a tool: what `runtime.tools.tool` makes."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import update_wrapper
from typing import Annotated, Any, Literal, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_json

from runtime.domain.services.tools import Approver, ToolOutcome, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from runtime.infrastructure.tools.function import ToolProblem, explained, problem_of

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
Function = Callable[..., Any]


class DecoratedTool:
    """`function` is what was decorated, to be called as it is in tests."""

    __name__: str
    __wrapped__: Function

    def __init__(
        self, function: Function, name: str | None, description: str | None, traits: ToolTraits
    ) -> None:
        """Raises TypeError, ValueError for what can't be a tool."""
        update_wrapper(self, function)
        self.function = function
        self.traits = traits
        self._is_async = inspect.iscoroutinefunction(function)
        name = name or function.__name__
        if not NAME.fullmatch(name):
            raise ValueError(f"a tool's name is letters, digits, _ and -, at most 64; not {name!r}")
        self._model, self._names = _arguments(function, name)
        about = description if description is not None else inspect.getdoc(function) or ""
        self.spec = ToolSpec(name, about, self._model.model_json_schema())

    def problem(self, arguments: str) -> str | None:
        return problem_of(arguments, self.spec.name, self._model)

    async def __call__(self, arguments: str) -> ToolOutcome:
        try:
            parsed = self._model.model_validate_json(arguments or "{}")
        except ValidationError as error:
            return ToolOutcome("error", explained(error, self.spec.name, self._model))
        values = {name: getattr(parsed, field) for field, name in self._names.items()}
        try:
            return ToolOutcome("success", _text(await self._result(values)))
        except ToolProblem as problem:
            return ToolOutcome("error", str(problem))

    async def _result(self, values: Mapping[str, object]) -> object:
        if self._is_async:
            return await self.function(**values)
        found = await asyncio.to_thread(self.function, **values)
        return await found if isinstance(found, Awaitable) else found


@overload
def tool(function: Function, /) -> DecoratedTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    idempotent: bool = False,
    needs_approval: bool | Literal["reviewer"] = False,
    timeout_s: float | None = None,
) -> Callable[[Function], DecoratedTool]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    idempotent: bool = False,
    needs_approval: bool | Literal["reviewer"] = False,
    timeout_s: float | None = None,
) -> DecoratedTool | Callable[[Function], DecoratedTool]:
    """Make a tool of a function, plain or async, whose parameters have type hints.

    `description`: what the model is told; else the docstring. `read_only`, `idempotent`: the call
    may be repeated after a crash. `needs_approval`: a person agrees to each call; with `reviewer`
    one with that role who is not the run's owner. A plain function runs in a thread. What it
    returns reaches the model as text or, if it is no text, as JSON. Raise `ToolProblem` to tell
    the model what it did wrong; other exceptions stay in the log.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError("timeout_s is more than 0")
    approval: Approver | None = None
    if needs_approval:
        approval = "reviewer" if needs_approval == "reviewer" else "owner"
    traits = ToolTraits(read_only, idempotent, approval, timeout_s)

    def made(function: Function) -> DecoratedTool:
        return DecoratedTool(function, name, description, traits)

    return made if function is None else made(function)


def _arguments(function: Function, name: str) -> tuple[type[BaseModel], Mapping[str, str]]:
    """The model of its parameters, and which field is which of them."""
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, (parameter, hint, default) in enumerate(_parameters(function)):
        # Under names of our own: a parameter may be called as a method of the model.
        field = f"argument_{number}"
        fields[field] = (Annotated[hint, Field(alias=parameter)], default)
        names[field] = parameter
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return create_model(name, __config__=config, **fields), names


def _parameters(function: Function) -> Iterator[tuple[str, Any, Any]]:
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"'{parameter.name}' can't be given by name")
        if parameter.name not in hints:
            raise TypeError(f"'{parameter.name}' has no type hint")
        required = parameter.default is parameter.empty
        yield parameter.name, hints[parameter.name], ... if required else parameter.default


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    return "" if result is None else to_json(result).decode()
