"""What watches the runtime at work: metrics, traces, the log.

It is told once a run and once a call, never once a token, and gets no message, argument or result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.errors import DomainError
from runtime.domain.value_objects.chat import NO_USAGE, FinishReason, GenerationOptions, Usage
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How one model call ended, all its attempts together."""

    outcome: str
    """`success`, `cancelled`, or the code of the error."""
    duration_s: float
    first_event_s: float | None = None
    """From the call to the first piece of its answer."""
    retries: int = 0
    usage: Usage = NO_USAGE
    model: str | None = None
    """As the provider reports it."""
    finish_reason: FinishReason | None = None


class RunWatch(Protocol):
    def tool_called(self, call_id: str, name: str) -> None: ...

    def tool_returned(self, call_id: str, status: Literal["success", "error"]) -> None: ...

    def ended(self, run: Run) -> None: ...


class CallWatch(Protocol):
    @property
    def headers(self) -> Mapping[str, str]:
        """What goes along with the request to the provider."""

    def ended(self, end: CallEnd) -> None: ...


class Monitor(Protocol):
    def run(self, id: RunId, agent: Agent) -> RunWatch:
        """A run begins. Called in the run's own context: a context variable that is set here
        holds for all that the run does, and when it ends."""

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        """In the context of the run that makes the call."""

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        """The model's name is the caller's, and may be of none."""

    def fell_back(self, provider: str, model: str, error: DomainError) -> None:
        """A call that another model is asked to answer, and why."""

    def refused(self, agent: Agent, error: DomainError) -> None:
        """A run that did not begin."""


class UnwatchedRun(RunWatch):
    def tool_called(self, call_id: str, name: str) -> None: ...

    def tool_returned(self, call_id: str, status: Literal["success", "error"]) -> None: ...

    def ended(self, run: Run) -> None: ...


class UnwatchedCall(CallWatch):
    @property
    def headers(self) -> Mapping[str, str]:
        return _NO_HEADERS

    def ended(self, end: CallEnd) -> None: ...


class Unwatched(Monitor):
    """Sees nothing; a base for monitors that see only some of it."""

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        return _UNWATCHED_RUN

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        return _UNWATCHED_CALL

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        return _UNWATCHED_CALL

    def fell_back(self, provider: str, model: str, error: DomainError) -> None: ...

    def refused(self, agent: Agent, error: DomainError) -> None: ...


_NO_HEADERS: Mapping[str, str] = {}
_UNWATCHED_RUN = UnwatchedRun()
_UNWATCHED_CALL = UnwatchedCall()
UNWATCHED = Unwatched()
