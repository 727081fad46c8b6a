"""The run that the current task belongs to; a model called anywhere below it reports to it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from runtime.domain.errors import ExecutionFailed
from runtime.domain.events.runs import RunEvent, TextDelta
from runtime.domain.services.durability import ApprovalRequest, Decision, RunSuspended
from runtime.domain.services.executor import AgentInstance, Emit, RunInput
from runtime.domain.value_objects.chat import FinishReason

AHEAD = 256
"""Events a run may be ahead of the reader of `events_of`."""


@dataclass(slots=True)
class RunScope:
    input: RunInput
    emit: Emit
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    finish_reason: FinishReason = "stop"
    """Of the last model call whose text went to the caller."""
    shown: set[str] = field(default_factory=set)
    """Ids of the messages whose text went to the caller."""
    spoke: bool = False
    """Whether any piece of the answer went to the caller: it can't be taken back."""
    attempts: dict[str, int] = field(default_factory=dict)
    """How often a step was tried, by its name, where that was more than once."""
    called_own_tools: bool = False
    caller_calls: int = 0
    """How many calls the caller was asked to make; the next one gets this index."""

    async def say(self, text: str) -> None:
        """Send a piece of the answer that no model wrote."""
        self.spoke = True
        await self.emit(TextDelta(text))


CURRENT: ContextVar[RunScope | None] = ContextVar("current_run", default=None)


def current_run() -> RunScope:
    """For code inside a node. Raises ExecutionFailed outside of a run."""
    scope = CURRENT.get()
    if scope is None:
        raise ExecutionFailed("This only works inside a run.")
    return scope


def current_step() -> str:
    """The step that the current task belongs to, the same over attempts; empty: not known."""
    return ""


def suspend(request: ApprovalRequest) -> Decision:
    """What a person has decided. Raises RunSuspended before that."""
    durable = current_run().input.durable
    decision = durable.decisions.get(request.key) if durable else None
    if decision is None:
        raise RunSuspended([request])
    return decision


async def events_of(instance: AgentInstance, input: RunInput) -> AsyncGenerator[RunEvent]:
    """What `instance.run` emits, as a generator; closing it cancels the run."""
    queue: asyncio.Queue[RunEvent | None] = asyncio.Queue(AHEAD)

    async def produce() -> None:
        try:
            await instance.run(input, queue.put)
        finally:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    task = asyncio.create_task(produce())
    try:
        while not (task.done() and queue.empty()):
            event = await queue.get()
            if event is None:
                break
            yield event
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
