"""The graph's tasks as the run's steps."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables.config import var_child_runnable_config

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.events.runs import StepFinished, StepStarted, ToolCallDelta
from runtime.domain.services.durability import AttemptLost, RunSuspended
from runtime.templates.langgraph.messages import tool_calls_of
from runtime.templates.scope import RunScope

Task = Mapping[str, Any]


_CUT_OFF = (asyncio.CancelledError, DatabaseUnavailable, AttemptLost, RunSuspended)
"""With these a step is neither done nor has it failed: another attempt makes it."""


class Steps:
    def __init__(
        self, scope: RunScope, *, shows: bool = True, skipped: Collection[str] = ()
    ) -> None:
        self._scope = scope
        self._shows = shows
        """Whether messages that nodes return are part of the answer."""
        self._skipped = skipped
        """Ids of tasks that are listed again, but were finished before."""
        self._begun: dict[str, tuple[str, float]] = {}
        self._ending = asyncio.Lock()
        self.any = False
        """Whether any step began."""

    async def started(self, task: Task) -> None:
        if task["id"] in self._skipped:
            return
        self.any = True
        self._begun[task["id"]] = task["name"], perf_counter()
        await self._scope.emit(StepStarted(task["id"], task["name"]))

    async def finished(self, task: Task) -> None:
        await self.ended(task["id"], task.get("result"), task.get("error"))

    async def ended(self, id: str, result: object, error: object = None) -> None:
        """Once, whoever hears of it first; the second one returns when all of it is said."""
        if isinstance(error, _CUT_OFF):
            self.left(id)
            return
        async with self._ending:
            begun = self._begun.pop(id, None)
            if begun is None:
                return
            name, since = begun
            spent_ms = (perf_counter() - since) * 1_000
            tries = self._scope.attempts.pop(name, 1)
            status: Literal["success", "error"] = "error" if error else "success"
            await self._scope.emit(StepFinished(id, name, status, spent_ms, tries))
            if self._shows:
                for message in answers_in(result):
                    await show(message, self._scope)

    def left(self, id: str) -> None:
        """It goes on in another attempt."""
        self._begun.pop(id, None)


def step_of_task() -> str:
    """The id of the task that the calling code runs in, below those of the tasks that run its
    graph."""
    config = var_child_runnable_config.get()
    namespace = (config or {}).get("configurable", {}).get("checkpoint_ns") or ""
    return "/".join(part.rpartition(":")[2] for part in namespace.split("|"))


def answers_in(result: object) -> Iterator[AIMessage]:
    """Assistant messages in what a node returned."""
    if isinstance(result, AIMessage):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from answers_in(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from answers_in(value)


def callers_calls(message: AIMessage, scope: RunScope) -> Sequence[Any]:
    own = {tool.name for tool in scope.input.options.tools}
    return [call for call in tool_calls_of(message) if call.name in own]


async def show(message: AIMessage, scope: RunScope) -> None:
    if message.id in scope.shown:
        return
    if message.id:
        scope.shown.add(message.id)
    if message.text:
        await scope.say(message.text)
    for call in callers_calls(message, scope):
        delta = ToolCallDelta(scope.caller_calls, call.id, call.name, call.arguments)
        scope.caller_calls += 1
        scope.finish_reason = "tool_calls"
        await scope.emit(delta)
