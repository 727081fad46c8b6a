"""What the author of a provider adapter needs; see docs/write-an-adapter.md.

The names here change only compatibly within a major version, wherever they live.
"""

from runtime.domain.errors import (
    DomainError,
    EgressRefused,
    EmbeddingModelNotFound,
    InvalidValue,
    UnsupportedParameter,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    FilePart,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolSpec,
    Usage,
)
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.base import (
    Connection,
    Provider,
    ProviderAdapter,
    Timeouts,
    number_option,
    text_option,
)
from runtime.infrastructure.providers.faults import Faults
from runtime.infrastructure.providers.openai import OpenAIProvider
from runtime.infrastructure.providers.wire import BEARER, Answer, KeyHeader, Wire, address

__all__ = [
    "BEARER",
    "AnnotationsAdded",
    "Answer",
    "AudioPart",
    "ChatRole",
    "Connection",
    "DomainError",
    "EgressClient",
    "EgressPolicy",
    "EgressRefused",
    "EmbeddingCall",
    "EmbeddingModelNotFound",
    "Embeddings",
    "Faults",
    "FilePart",
    "FinishReason",
    "GenerationOptions",
    "ImagePart",
    "InvalidValue",
    "KeyHeader",
    "Message",
    "ModelCall",
    "ModelEvent",
    "ModelFinished",
    "OpenAIProvider",
    "Provider",
    "ProviderAdapter",
    "ReasoningDelta",
    "RefusalDelta",
    "TextDelta",
    "TextPart",
    "Timeouts",
    "ToolCall",
    "ToolCallDelta",
    "ToolSpec",
    "UnsupportedParameter",
    "UpstreamAuthFailed",
    "UpstreamFailed",
    "UpstreamQuotaExhausted",
    "UpstreamRateLimited",
    "UpstreamRefused",
    "UpstreamTimeout",
    "Usage",
    "UsageReported",
    "Wire",
    "address",
    "number_option",
    "text_option",
]
