"""Calls of tools inside a run: the run is told of them, and a durable one makes each once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from time import perf_counter

import orjson

from runtime.domain.errors import ApprovalNeedsDurableRun, ExecutionFailed
from runtime.domain.events.runs import ToolCalled, ToolReturned
from runtime.domain.services.durability import (
    ApprovalRequest,
    Decision,
    Durability,
    Entered,
)
from runtime.domain.services.tools import ToolOutcome, ToolService, ToolTraits
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId
from runtime.templates.scope import CURRENT, RunScope, current_step, suspend

logger = logging.getLogger(__name__)

MAX_OUTPUT = 1_000_000
"""Characters. What gives more has failed: no model reads that."""
Make = Callable[[str], Awaitable[ToolOutcome]]
"""Calls the tool with these arguments, as JSON text. What goes wrong in it is an outcome."""


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """What a tool may know of the call that it is being called by."""

    run_id: RunId
    call_id: str
    user_id: UserId
    project_id: ProjectId
    claims: Mapping[str, object]
    """Of the JWT of whom the run is for, checked."""
    repeated: bool = False
    """It may have been made before, with the same idempotency key."""

    @property
    def idempotency_key(self) -> str:
        """The same however often this call is made, and no other call's."""
        return f"{self.run_id}:{self.call_id}"


_CALL: ContextVar[CurrentCall | None] = ContextVar("current_call", default=None)


def tool_call() -> CurrentCall:
    """For code inside a tool. Raises ExecutionFailed outside of a run's call."""
    call = _CALL.get()
    if call is None:
        raise ExecutionFailed("This only works inside a tool that a run calls.")
    return call


async def call_tool(service: ToolService, call: ToolCall, timeout_s: float) -> ToolOutcome:
    """Run a tool and tell the run about it. Whatever goes wrong in it is an outcome.

    In a durable run: a call that has finished is not made again, and one that needs a person's
    word waits for it: see `suspend`. Raises ApprovalNeedsDurableRun; of durable runs also
    AttemptLost and DatabaseUnavailable.
    """
    traits = service.traits(call.name)
    limit_s = traits.timeout_s or timeout_s
    return await once(call, traits, lambda text: _called(service, call.name, text, limit_s))


async def once(call: ToolCall, traits: ToolTraits, make: Make) -> ToolOutcome:
    """`call_tool`, for whatever `make` does."""
    scope = CURRENT.get()
    durable = scope.input.durable if scope else None
    if durable is None and traits.approval:
        raise ApprovalNeedsDurableRun(call.name)
    if scope is None:
        return _kept(call.name, await make(call.arguments))
    if durable is None:
        await scope.emit(ToolCalled(call.id, call.name, call.arguments))
        outcome, spent_ms = await _made(scope, call, make)
        await _tell(scope, call, outcome, spent_ms)
        return outcome
    return await _Recorded(scope, durable, traits, make).outcome_of(call)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A call of a durable run, over all its attempts."""

    scope: RunScope
    durable: Durability
    traits: ToolTraits
    make: Make

    async def outcome_of(self, call: ToolCall) -> ToolOutcome:
        traits = self.traits
        entered = await self.durable.calls.before(
            call,
            step=current_step(),
            repeatable=traits.repeatable,
            ask=traits.approval is not None,
        )
        call = replace(call, id=entered.call_id)
        agreed = self.durable.decisions.get(call.id)
        if agreed and agreed.decision == "edit" and agreed.arguments is not None:
            call = replace(call, arguments=agreed.arguments)
        if entered.outcome is not None:
            await self.scope.emit(ToolCalled(call.id, call.name, call.arguments))
            await _tell(self.scope, call, entered.outcome, entered.duration_ms)
            return entered.outcome
        outcome, spent_ms = await self._said(call, entered), 0.0
        if outcome is None and entered.state in ("asked", "unknown"):
            await self.durable.calls.begin(entered)
        await self.scope.emit(ToolCalled(call.id, call.name, call.arguments))
        if outcome is None:
            repeated = entered.state in ("repeat", "unknown")
            outcome, spent_ms = await _made(self.scope, call, self.make, repeated)
        await self.durable.calls.after(entered, outcome, spent_ms)
        await _tell(self.scope, call, outcome, spent_ms)
        return outcome

    async def _said(self, call: ToolCall, entered: Entered) -> ToolOutcome | None:
        """What a person says that the call gave; None: make it. Raises RunSuspended."""
        match entered.state:
            case "asked":
                return _refused(call, await suspend(self._request(call)))
            case "unknown":
                return _settled(call, await suspend(self._question(call, entered.attempt)))
        return None

    def _request(self, call: ToolCall) -> ApprovalRequest:
        return ApprovalRequest(
            kind="tool",
            key=call.id,
            call_id=call.id,
            tool=call.name,
            arguments=call.arguments,
            approver=self.traits.approval or "owner",
        )

    def _question(self, call: ToolCall, attempt: int) -> ApprovalRequest:
        # Each time that a call is left in flight is a question of its own.
        return replace(self._request(call), kind="outcome_unknown", key=f"{call.id}:{attempt}")


def _refused(call: ToolCall, word: Decision) -> ToolOutcome | None:
    if word.decision != "reject":
        return None
    by = f" by {word.decided_by}" if word.decided_by else ""
    why = f": {word.reason}" if word.reason else "."
    return ToolOutcome("error", f"The call of '{call.name}' was rejected{by}{why}")


def _settled(call: ToolCall, word: Decision) -> ToolOutcome | None:
    match word.decision:
        case "approve":
            return None
        case "edit":
            value = word.value
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            return _kept(call.name, ToolOutcome("success", text))
    why = f": {word.reason}" if word.reason else "."
    text = f"Nobody knows what came of the call of '{call.name}'; it is not made again{why}"
    return ToolOutcome("error", text)


async def _made(
    scope: RunScope, call: ToolCall, make: Make, repeated: bool = False
) -> tuple[ToolOutcome, float]:
    """What it gave, and how many milliseconds it took."""
    given = scope.input
    current = CurrentCall(
        given.run_id, call.id, given.user_id, given.project_id, given.claims, repeated
    )
    token = _CALL.set(current)
    since = perf_counter()
    try:
        outcome = await make(call.arguments)
    finally:
        _CALL.reset(token)
    return _kept(call.name, outcome), (perf_counter() - since) * 1_000


async def _tell(scope: RunScope, call: ToolCall, outcome: ToolOutcome, spent_ms: float) -> None:
    await scope.emit(ToolReturned(call.id, call.name, outcome.status, outcome.output, spent_ms))


async def _called(service: ToolService, name: str, arguments: str, timeout_s: float) -> ToolOutcome:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await service.call(name, arguments)
    # The model reads what happened and goes on; the log has the cause.
    except Exception:
        if limit.expired():
            return ToolOutcome("error", f"The tool '{name}' took more than {timeout_s:g} s.")
        logger.exception("the tool %s failed", name)
        return ToolOutcome("error", f"The tool '{name}' failed.")


def _kept(name: str, outcome: ToolOutcome) -> ToolOutcome:
    """As every database can keep it."""
    text = outcome.output
    if len(text) > MAX_OUTPUT:
        said = f"The tool '{name}' gave {len(text)} characters; at most {MAX_OUTPUT} can be read."
        return ToolOutcome("error", said)
    if "\x00" in text or not text.isascii():
        text = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        return replace(outcome, output=text)
    return outcome
