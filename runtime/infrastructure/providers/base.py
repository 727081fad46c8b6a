from collections.abc import AsyncGenerator
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

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        """One attempt: deltas, UsageReported if the provider counts, ModelFinished.

        An answer cut short raises. Closing the generator closes the connection at once.
        Raises UpstreamRefused, UpstreamRateLimited, UpstreamFailed, UpstreamTimeout.
        """

    async def aclose(self) -> None: ...
