"""The tools of a graph that runs them by itself."""

from asyncio import gather
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import orjson
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.errors import GraphBubbleUp

from runtime.domain.errors import ExecutionFailed, FieldProblem, InvalidConfig, InvalidValue
from runtime.domain.services.tools import ToolOutcome, ToolService, ToolTraits
from runtime.domain.value_objects.chat import ToolCall, ToolSpec
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.tools import call_tool, once

T = TypeVar("T")

_ASKED_AS: ContextVar[str] = ContextVar("asked_as", default="")
"""The id that the model gave the call which is being made."""


def granted_specs(service: ToolService, granted: Sequence[str], path: str) -> Sequence[ToolSpec]:
    """Raises InvalidConfig, at `path`, for a tool that is not there (any more)."""
    try:
        return service.specs(granted)
    except InvalidValue as error:
        raise InvalidConfig([FieldProblem(path, str(error), allowed=service.names())]) from error


def as_langchain(
    service: ToolService, granted: Sequence[str], timeout_s: float, path: str = "tools"
) -> Sequence[BaseTool]:
    """The granted tools for a graph that runs them by itself. Raises InvalidConfig."""
    return [
        _GrantedTool(
            coroutine=_caller(service, spec.name, timeout_s),
            name=spec.name,
            description=spec.description,
            args_schema=dict(spec.parameters),
            handle_tool_error=True,
        )
        for spec in granted_specs(service, granted, path)
    ]


class _GrantedTool(StructuredTool):
    async def ainvoke(
        self,
        input: str | dict[str, Any] | Any,  # noqa: ANN401 - as in langchain
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> Any:  # noqa: ANN401 - as in langchain
        token = _ASKED_AS.set(_asked_as(input))
        try:
            return await super().ainvoke(input, config, **kwargs)
        finally:
            _ASKED_AS.reset(token)


def _caller(
    service: ToolService, name: str, timeout_s: float
) -> Callable[..., Coroutine[Any, Any, str]]:
    async def call(**arguments: object) -> str:
        wish = ToolCall(_ASKED_AS.get() or _new_id(), name, json_text(arguments))
        outcome = await call_tool(service, wish, timeout_s)
        if outcome.status == "error":
            raise ToolException(outcome.output)
        return outcome.output

    return call


class OnceTool(BaseTool):
    """Another tool, whose calls a durable run makes once."""

    inner: BaseTool
    traits: ToolTraits

    def _run(self, *args: object, **kwargs: object) -> object:
        raise ExecutionFailed(f"Call the tool '{self.name}' from an async node.")

    async def ainvoke(
        self,
        input: str | dict[str, Any] | Any,  # noqa: ANN401 - as in langchain
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> Any:  # noqa: ANN401 - as in langchain
        id = _asked_as(input)
        given = _named(input, self.inner)
        # What the graph adds, its state or store, is no part of what the model asked for.
        asked = {name: value for name, value in given.items() if name in self.inner.args}
        call = ToolCall(id or _new_id(), self.name, json_text(asked))
        made: list[ToolMessage | Exception] = []

        async def make(arguments: str) -> ToolOutcome:
            final = {**given, **orjson.loads(arguments)}
            request = {"type": "tool_call", "id": call.id, "name": self.name, "args": final}
            try:
                made.append(_message(await self.inner.ainvoke(request, config, **kwargs)))
            except GraphBubbleUp:
                raise
            # The graph gets it as it is, this time; what is on record is its text.
            except Exception as error:  # noqa: BLE001 - raised below
                made.append(error)
            return _outcome(made[0])

        outcome = await once(call, self.traits, make)
        for each in made:
            if isinstance(each, Exception):
                raise each
            return each if id else each.content
        if id:
            return ToolMessage(
                outcome.output, tool_call_id=id, name=self.name, status=outcome.status
            )
        if outcome.status == "error":
            raise ToolException(outcome.output)
        return outcome.output


def once_each(tools: Sequence[BaseTool], traits: Mapping[str, ToolTraits]) -> list[BaseTool]:
    return [
        OnceTool(
            name=tool.name,
            description=tool.description,
            args_schema=tool.args_schema,
            return_direct=tool.return_direct,
            inner=tool,
            traits=traits.get(tool.name, ToolTraits()),
        )
        for tool in tools
    ]


async def side_by_side(work: Iterable[Awaitable[T]]) -> list[T]:
    """All at the same time, and each to its end even where another one waits for a person: a call
    that is cut off is one of which nobody knows whether it was made."""
    results = await gather(*work, return_exceptions=True)
    errors = [each for each in results if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, GraphBubbleUp)):
        raise error
    return [each for each in results if not isinstance(each, BaseException)]


def _asked_as(input: object) -> str:
    """Empty when it was no model that asked."""
    if isinstance(input, Mapping) and input.get("type") == "tool_call":
        return str(input.get("id") or "")
    return ""


def _named(input: object, tool: BaseTool) -> dict[str, Any]:
    if isinstance(input, Mapping):
        return dict(input.get("args", {}) if input.get("type") == "tool_call" else input)
    return {next(iter(tool.args)): input}


def _message(result: object) -> ToolMessage:
    if isinstance(result, ToolMessage):
        return result
    raise ExecutionFailed(
        f"A tool that is called once gives text or JSON, not {type(result).__name__}: what it "
        "gave is kept, and given again."
    )


def _outcome(made: ToolMessage | Exception) -> ToolOutcome:
    if isinstance(made, Exception):
        return ToolOutcome("error", f"{type(made).__name__}: {made}")
    content = made.content
    text = content if isinstance(content, str) else orjson.dumps(content, default=str).decode()
    return ToolOutcome("error" if made.status == "error" else "success", text)


def _new_id() -> str:
    return f"call_{uuid7_hex()}"


def json_text(arguments: Mapping[str, object]) -> str:
    return orjson.dumps(arguments, default=str).decode()
