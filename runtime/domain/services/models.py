"""The model service: the only way from an agent to an LLM."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import FinishReason, GenerationOptions, Message


@dataclass(frozen=True, slots=True)
class ModelCall:
    model: str | None
    """`provider/name`; None is the operator's default."""
    messages: Sequence[Message]
    options: GenerationOptions = field(default_factory=GenerationOptions)
    stream: bool = True
    """False lets the provider send the answer in one piece, which costs less: it comes as the
    same deltas, fewer of them."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What goes along with the request, such as the trace it belongs to."""


@dataclass(frozen=True, slots=True)
class ModelFinished:
    reason: FinishReason
    model: str
    """As the provider reports it."""
    system_fingerprint: str | None = None


ModelEvent = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | AnnotationsAdded
    | ToolCallDelta
    | UsageReported
    | ModelFinished
)


class ModelService(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        """Deltas, then UsageReported, then ModelFinished, always both and in this order.

        A stream that the provider cuts short raises, it never ends without ModelFinished.
        Closing the generator closes the connection. Transient failures before the first delta
        are retried here and nowhere else.

        Raises InvalidValue for a model that is not configured, UpstreamRefused,
        UpstreamRateLimited, UpstreamAuthFailed, UpstreamFailed, UpstreamTimeout.
        """

    def check(self, model: str | None) -> None:
        """Raises InvalidValue, with the providers there are, when no provider serves `model`."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    provider: str
    status: Literal["healthy", "degraded"]
    """Degraded: its most recent call failed."""
