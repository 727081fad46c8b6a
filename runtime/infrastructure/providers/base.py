from collections.abc import AsyncGenerator, Collection
from typing import Protocol, runtime_checkable

from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent
from runtime.domain.value_objects.embeddings import Embeddings

OPENAI_EMBEDDING_MODELS = (
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
)
"""What stock clients ask for when nobody tells them otherwise."""


class Provider(Protocol):
    """One LLM endpoint. The model service retries, estimates usage and keeps the order."""

    @property
    def name(self) -> str:
        """What stands before the slash in `provider/name`."""

    @property
    def default_model(self) -> str:
        """The model meant by the provider's name alone."""

    @property
    def formats(self) -> Collection[str]:
        """The types of `response_format` that its models keep to by themselves."""

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        """One attempt: deltas, UsageReported if the provider counts, ModelFinished.

        An answer cut short raises. Closing the generator closes the connection at once.
        Raises UpstreamRefused, UpstreamRateLimited, UpstreamFailed, UpstreamTimeout.
        """

    async def aclose(self) -> None: ...


@runtime_checkable
class EmbeddingProvider(Protocol):
    """What a provider has that also embeds."""

    @property
    def default_embedding_model(self) -> str:
        """The one meant by the provider's name alone."""

    @property
    def embedding_models(self) -> Collection[str]:
        """Those that are known to be there; a provider may have more."""

    async def embed(self, call: EmbeddingCall, model: str) -> Embeddings:
        """One attempt. Raises EmbeddingModelNotFound and what `Provider.stream` raises."""
