from typing import Protocol


class RequestMonitor(Protocol):
    def began(self, traceparent: str | None) -> None:
        """In the request's own task; the header of that name as it came."""

    def ended(self, method: str, route: str, status: int, duration_s: float) -> None:
        """`route` as it is declared, never a path that a caller made up."""


class Metrics(Protocol):
    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type."""
