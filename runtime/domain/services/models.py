"""The model service: the only way from an agent to an LLM."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from runtime.domain.errors import DomainError
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import (
    NO_USAGE,
    FinishReason,
    GenerationOptions,
    Message,
    Usage,
)
from runtime.domain.value_objects.embeddings import EmbeddingInput, Embeddings
from runtime.domain.value_objects.ids import ProjectId
from runtime.domain.value_objects.providers import BreakerState


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


class ModelServices(Protocol):
    """The model service as each project has it: the operator's providers and its own."""

    def of(self, project: ProjectId) -> ModelService: ...

    async def probe(self, project: ProjectId, model: str) -> "Probed":
        """One short call of exactly this model (`provider/name`, or a provider's id) as it is
        stored now, past its breaker and without its fallbacks, though it is disabled. Nothing is
        raised for what the provider does wrong. Raises InvalidValue where no provider serves it,
        DatabaseUnavailable."""

    def health(self, project: ProjectId) -> Sequence["ProviderHealth"]:
        """From the calls so far; nobody is called for it."""


HealthStatus = Literal["healthy", "degraded", "unhealthy", "disabled"]


@dataclass(frozen=True, slots=True)
class Probed:
    """The outcome of a test call."""

    provider: str
    model: str
    """The provider's own name of it."""
    latency_ms: float
    error: DomainError | None = None
    """What it failed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    """What is known of one model from its calls in this process."""

    model: str
    """`provider/name`."""
    breaker: BreakerState = "closed"
    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    """Calls that another model answered instead."""
    active: int = 0
    first_token_ms: Mapping[str, float] = field(default_factory=dict)
    """`p50`, `p95` and `p99` of the latest calls."""
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = NO_USAGE
    last_error: str | None = None
    """Its code."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    provider: str
    status: HealthStatus
    """Degraded: the most recent call of one of its models failed. Unhealthy: every model that was
    called is left alone by its breaker."""
    type: str = ""
    models: Sequence[ModelHealth] = ()
    """Those that were called."""
    active: int = 0
    """Calls that go on."""
    project: ProjectId | None = None
    """None: the operator's, for every project."""
