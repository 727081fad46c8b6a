"""The tools that an agent is granted, inside a run."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any

import orjson
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from runtime.domain.errors import FieldProblem, InvalidConfig, InvalidValue
from runtime.domain.events.runs import ToolCalled, ToolReturned
from runtime.domain.services.tools import ToolOutcome, ToolService
from runtime.domain.value_objects.chat import ToolCall, ToolSpec
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.scope import CURRENT

logger = logging.getLogger(__name__)


def granted_specs(service: ToolService, granted: Sequence[str], path: str) -> Sequence[ToolSpec]:
    """Raises InvalidConfig, at `path`, for a tool that is not there (any more)."""
    try:
        return service.specs(granted)
    except InvalidValue as error:
        raise InvalidConfig([FieldProblem(path, str(error), allowed=service.names())]) from error


async def call_tool(service: ToolService, call: ToolCall, timeout_s: float) -> ToolOutcome:
    """Run a tool and tell the run about it. Whatever goes wrong in it is an outcome."""
    scope = CURRENT.get()
    if scope:
        await scope.emit(ToolCalled(call.id, call.name, call.arguments))
    since = perf_counter()
    outcome = await _outcome(service, call, timeout_s)
    if scope:
        spent_ms = (perf_counter() - since) * 1_000
        await scope.emit(ToolReturned(call.id, call.name, outcome.status, outcome.output, spent_ms))
    return outcome


async def _outcome(service: ToolService, call: ToolCall, timeout_s: float) -> ToolOutcome:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await service.call(call.name, call.arguments)
    # The model reads what happened and goes on; the log has the cause.
    except Exception:
        if limit.expired():
            return ToolOutcome("error", f"The tool '{call.name}' took more than {timeout_s:g} s.")
        logger.exception("the tool %s failed", call.name)
        return ToolOutcome("error", f"The tool '{call.name}' failed.")


def as_langchain(
    service: ToolService, granted: Sequence[str], timeout_s: float, path: str = "tools"
) -> Sequence[BaseTool]:
    """The granted tools for a graph that runs them by itself. Raises InvalidConfig."""
    return [
        StructuredTool.from_function(
            coroutine=_caller(service, spec.name, timeout_s),
            name=spec.name,
            description=spec.description,
            args_schema=dict(spec.parameters),
            handle_tool_error=True,
        )
        for spec in granted_specs(service, granted, path)
    ]


def _caller(
    service: ToolService, name: str, timeout_s: float
) -> Callable[..., Coroutine[Any, Any, str]]:
    async def call(**arguments: object) -> str:
        wish = ToolCall(f"call_{uuid7_hex()}", name, json_text(arguments))
        outcome = await call_tool(service, wish, timeout_s)
        if outcome.status == "error":
            raise ToolException(outcome.output)
        return outcome.output

    return call


def json_text(arguments: Mapping[str, object]) -> str:
    return orjson.dumps(arguments).decode()
