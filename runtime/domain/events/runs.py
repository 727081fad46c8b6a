"""What happens in a run, in order. Every door is an encoder over these; nothing else comes out.

A run's events begin with RunStarted and end with exactly one of RunCompleted, RunFailed
and RunCancelled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from runtime.domain.errors import DomainError
from runtime.domain.value_objects.chat import NO_USAGE, FinishReason, Usage
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True)
class RunStarted:
    type: ClassVar = "run.started"
    run_id: RunId


@dataclass(slots=True)
class TextDelta:
    """A piece of the answer. Not frozen: one is made per token, and a frozen one costs twice."""

    type: ClassVar = "text.delta"
    text: str
    logprobs: Mapping[str, object] | None = None
    """OpenAI's `choices[].logprobs` object for this piece."""


@dataclass(slots=True)
class ReasoningDelta:
    type: ClassVar = "reasoning.delta"
    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    type: ClassVar = "refusal.delta"
    text: str
    logprobs: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class AnnotationsAdded:
    """Where pieces of the answer come from, as the model's provider says it."""

    type: ClassVar = "text.annotations"
    annotations: Sequence[Mapping[str, object]]
    """OpenAI's `url_citation` objects; their indices count characters of the whole answer."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A call that the *caller* is to make, as the model writes it.

    `call_id` and `name` come with the first delta of an index and are empty afterwards.
    """

    type: ClassVar = "tool.call.delta"
    index: int
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The agent calls one of its own tools."""

    type: ClassVar = "tool.call"
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A failing tool is a result too: the model reads the error and goes on."""

    type: ClassVar = "tool.result"
    call_id: str
    name: str
    status: Literal["success", "error"]
    output: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class StepStarted:
    type: ClassVar = "step.started"
    step_id: str
    name: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    type: ClassVar = "step.finished"
    step_id: str
    name: str
    status: Literal["success", "error"]
    duration_ms: float
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class UsageReported:
    """One model call's tokens."""

    type: ClassVar = "usage"
    usage: Usage
    model: str
    estimated: bool = False
    """The provider sent no usage; counted at about four characters a token."""
    called: str = field(default="", compare=False)
    """`provider/name`, as it was asked for; `model` is what the provider says that it is."""


@dataclass(frozen=True, slots=True)
class HistorySummarised:
    """The agent told anew what came before the messages that it sees."""

    type: ClassVar = "history.summarised"
    text: str


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The run waits for a person. It goes on once every open approval is decided."""

    type: ClassVar = "approval.requested"
    approval_id: str
    kind: str
    """`tool`, `interrupt` or `outcome_unknown`."""
    call_id: str = ""
    tool: str = ""
    arguments: str = ""
    value: object = None
    """What a graph's `interrupt` says to the person."""


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    type: ClassVar = "approval.decided"
    approval_id: str
    decision: str
    """`approve`, `reject` or `edit`."""
    decided_by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunResumed:
    """Another attempt goes on where the log ends."""

    type: ClassVar = "run.resumed"
    attempt: int


@dataclass(frozen=True, slots=True)
class OutputDiscarded:
    """The answer goes on differently: what was said by events numbered higher than `after` does
    not count. Tools that were called stay called."""

    type: ClassVar = "output.discarded"
    after: int


@dataclass(frozen=True, slots=True)
class RunCompleted:
    type: ClassVar = "run.completed"
    finish_reason: FinishReason
    usage: Usage = NO_USAGE
    """Filled in by the engine: the sum over the run's model calls."""


@dataclass(frozen=True, slots=True)
class RunFailed:
    type: ClassVar = "run.failed"
    error: DomainError


@dataclass(frozen=True, slots=True)
class RunCancelled:
    type: ClassVar = "run.cancelled"


RunEvent = (
    RunStarted
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | AnnotationsAdded
    | ToolCallDelta
    | ToolCalled
    | ToolReturned
    | StepStarted
    | StepFinished
    | UsageReported
    | HistorySummarised
    | ApprovalRequested
    | ApprovalDecided
    | RunResumed
    | OutputDiscarded
    | RunCompleted
    | RunFailed
    | RunCancelled
)
OUTPUT = (TextDelta, ReasoningDelta, RefusalDelta, AnnotationsAdded, ToolCallDelta)
"""What a caller sees of a run while it goes on."""
TERMINAL = (RunCompleted, RunFailed, RunCancelled)
