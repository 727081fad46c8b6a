"""The run that the current task belongs to; a model called anywhere below it reports to it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NoReturn

from runtime.domain.errors import ApprovalNeedsDurableRun, ExecutionFailed
from runtime.domain.events.runs import RunEvent, TextDelta
from runtime.domain.services.durability import ApprovalRequest, Decision, RunSuspended
from runtime.domain.services.executor import AgentInstance, Emit, RunInput
from runtime.domain.value_objects.chat import FinishReason

AHEAD = 256
"""Events a run may be ahead of the reader of `events_of`."""


def _suspended(request: ApprovalRequest) -> NoReturn:
    raise RunSuspended([request])


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
    requests: dict[str, ApprovalRequest] = field(default_factory=dict)
    """What a person has to decide before the run can go on, by key."""
    step: Callable[[], str] = str
    """The id of the step that the calling code belongs to; empty where there are no steps."""
    pause: Callable[[ApprovalRequest], NoReturn] = _suspended
    """Leaves the step that calls it, so that the attempt can end."""

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
    """The id of the step that the calling code runs in: the same each time that the step of a
    durable run is tried, and another one for every step. Empty outside of steps."""
    scope = CURRENT.get()
    return scope.step() if scope else ""


async def suspend(request: ApprovalRequest) -> Decision:
    """What a person decided on `request`; found again by its key.

    Until then this does not return: it leaves the step by an exception that must pass, the run
    waits, and the step begins anew once there is a decision. Steps beside it run to their end.
    Raises ApprovalNeedsDurableRun when the caller waits for the run's answer.
    """
    scope = current_run()
    durable = scope.input.durable
    if durable is None:
        raise ApprovalNeedsDurableRun
    decision = durable.decisions.get(request.key)
    if decision is None:
        scope.requests[request.key] = request
        scope.pause(request)
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
