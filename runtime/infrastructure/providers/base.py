from collections.abc import AsyncGenerator, Collection
from typing import Protocol

from runtime.domain.services.models import ModelCall, ModelEvent


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
