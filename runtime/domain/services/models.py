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
from runtime.domain.value_objects.embeddings import EmbeddingInput, Embeddings


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


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    model: str
    """`provider/name`, a provider's name, or the name of a model of the default provider."""
    inputs: Sequence[EmbeddingInput]
    dimensions: int | None = None
    """None: as many as the model has."""
    user: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelService(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        """Deltas, then UsageReported, then ModelFinished, always both and in this order.

        A stream that the provider cuts short raises, it never ends without ModelFinished.
        Closing the generator closes the connection. Transient failures before the first delta
        are retried here and nowhere else.

        Raises InvalidValue for a model that is not configured, UpstreamRefused,
        UpstreamRateLimited, UpstreamAuthFailed, UpstreamFailed, UpstreamTimeout.
        """

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """Transient failures are retried here and nowhere else.

        Raises EmbeddingModelNotFound, and what `stream` raises.
        """

    def embedder(self, model: str) -> str:
        """What `embed` calls, as `provider/name`. Raises EmbeddingModelNotFound."""

    def is_embedder(self, model: str) -> bool:
        """Whether the name alone says that it is an embedding model. Others may be one too, of
        the default provider."""

    def check(self, model: str | None) -> None:
        """Raises InvalidValue, with the providers there are, when no provider serves `model`."""

    def obeys(self, model: str | None, response_format: Mapping[str, object]) -> bool:
        """Whether the model can't but keep to the format; others are asked for it in words."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    provider: str
    status: Literal["healthy", "degraded"]
    """Degraded: its most recent call failed."""
