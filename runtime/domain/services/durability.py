"""What an attempt of a durable run may rely on, inside the agent's code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from runtime.domain.repositories.checkpoints import Progress
from runtime.domain.services.tools import Approver, ToolOutcome
from runtime.domain.value_objects.chat import ToolCall

ApprovalKind = Literal["tool", "interrupt", "outcome_unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """What a person is asked before the run goes on."""

    kind: ApprovalKind
    key: str
    """Finds the answer again: a call's id, or an interrupt's. Once decided, it stays decided."""
    call_id: str = ""
    tool: str = ""
    arguments: str = ""
    """JSON text; what is approved is this call with these arguments."""
    approver: Approver = "owner"
    value: Any = None
    """What a graph's `interrupt` says: JSON."""


@dataclass(frozen=True, slots=True)
class Decision:
    decision: Literal["approve", "reject", "edit"]
    arguments: str | None = None
    """With `edit`: what the tool is called with instead."""
    value: Any = None
    """For an interrupt: what it returns. For an unknown outcome: what the call gave."""
    reason: str = ""
    decided_by: str = ""


class RunSuspended(Exception):
    """Raised by an instance: the attempt ends here, and the run waits for these."""

    def __init__(self, requests: Sequence[ApprovalRequest]) -> None:
        super().__init__(f"waits for {len(requests)} approvals")
        self.requests = requests


class HandedOver(Exception):
    """Raised by an instance at a step's boundary, where it was asked to stop: the next attempt
    goes on from there."""


class AttemptLost(Exception):
    """Another attempt has the run, or it has ended: nothing of this one counts any more."""


CallState = Literal["new", "asked", "finished", "repeat", "unknown"]


@dataclass(frozen=True, slots=True)
class Entered:
    """What the ledger says of a call before it is made."""

    state: CallState
    """new: make it. asked: it was not made, and a person decides whether it will be. finished: it
    was made, here is what it gave. repeat: it may have been made, and may be made again. unknown:
    it may have been made; a person decides."""
    call_id: str
    """Under which it is on record: a model that is asked again gives its calls other ids."""
    attempt: int
    """The one that last began to make it."""
    outcome: ToolOutcome | None = None
    duration_ms: float = 0


class CallLog(Protocol):
    """The tool ledger, as one attempt uses it: every call raises AttemptLost and
    DatabaseUnavailable."""

    async def before(
        self, call: ToolCall, *, step: str, repeatable: bool, ask: bool = False
    ) -> Entered:
        """To be asked, once, before a tool is called. With `ask` a call that is new is `asked`."""

    async def begin(self, entered: Entered) -> None:
        """A person said so: the call is made now, or once more."""

    async def after(self, entered: Entered, outcome: ToolOutcome, duration_ms: float) -> None:
        """Before anybody sees the outcome."""


class Flush(Protocol):
    async def __call__(self, progress: Callable[[], Progress] | None = None) -> None:
        """Until everything emitted so far is in the log, and `progress` with it, in the same
        transaction. It is asked for in the moment in which the events are taken: no step's state
        is kept before what the step said. Raises AttemptLost, DatabaseUnavailable."""


async def _nothing_to_flush(progress: Callable[[], Progress] | None = None) -> None: ...


@dataclass(slots=True)
class Durability:
    """Of one attempt. An interactive run has none."""

    attempt: int
    calls: CallLog
    flush: Flush = _nothing_to_flush
    """The way to a checkpoint: what a step said must not be lost once it is not made again."""
    restarted: bool = True
    """Set to False by an instance that goes on from a checkpoint, before it emits anything."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """By `ApprovalRequest.key`."""
    stopping: bool = False
    """The runtime drains: stop at the next step's boundary by raising HandedOver."""
    on_stop: Callable[[], None] | None = None
    """Set by an instance that can stop at a boundary by itself; called once `stopping`."""

    def stop(self) -> None:
        self.stopping = True
        if self.on_stop:
            self.on_stop()
