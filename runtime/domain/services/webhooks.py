"""How a webhook leaves the runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    text: str
    """The beginning of the body, at most MAX_EXCERPT characters."""
    retry_after_s: float | None = None


class WebhookSender(Protocol):
    def check(self, url: str) -> None:
        """Raises EgressRefused for an address that is not called."""

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Whatever the status; redirects are not followed. Raises EgressRefused, UpstreamFailed,
        UpstreamTimeout."""
