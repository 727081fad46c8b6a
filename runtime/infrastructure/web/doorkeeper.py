"""How many connections there are, and how long each may take: what every kind is held to."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from runtime.domain.errors import DomainError, RateLimited, Saturated
from runtime.infrastructure.settings import Settings

if TYPE_CHECKING:
    from runtime.infrastructure.web.protocol import BoundedProtocol
    from runtime.infrastructure.web.websocket.protocol import BoundedWebSocket

TURNED_AWAY = 256
"""Connections beyond the bound that are told so; any further one is closed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    header_bytes: int
    body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    send_timeout_s: float
    connections: int
    connections_per_client: int
    frames_per_s: int

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        return cls(
            header_bytes=settings.max_header_bytes,
            body_bytes=settings.max_body_bytes,
            header_timeout_s=settings.header_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            send_timeout_s=settings.send_timeout_s,
            connections=settings.max_connections,
            connections_per_client=settings.max_connections_per_client,
            frames_per_s=settings.ws_max_frames_per_s,
        )

    @property
    def raw_body_bytes(self) -> int:
        """As it is on the wire: chunks have sizes, an unwanted body is read to be thrown away."""
        return 2 * self.body_bytes + self.header_bytes


class Guarded(Protocol):
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def look(self, now: float) -> None: ...


class Doorkeeper:
    """Counts a server's connections and looks at each of them again and again."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.draining = False
        self._connections: set[Guarded] = set()
        self._by_client: Counter[str] = Counter()
        self._every_s = min(
            1.0, bounds.header_timeout_s / 4, bounds.body_timeout_s / 4, bounds.send_timeout_s / 4
        )
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def http(self) -> "type[BoundedProtocol]":
        from runtime.infrastructure.web.protocol import BoundedProtocol

        return type("Protocol", (BoundedProtocol,), {"keeper": self})

    @cached_property
    def websocket(self) -> "type[BoundedWebSocket]":
        # Not before the first WebSocket: it costs memory.
        from runtime.infrastructure.web.websocket.protocol import BoundedWebSocket

        return type("WebSocket", (BoundedWebSocket,), {"keeper": self})

    def enter(self, connection: Guarded, client: str) -> DomainError | None:
        """What to tell the client instead of an answer, if it came too many."""
        bounds = self.bounds
        self._connections.add(connection)
        self._by_client[client] += 1
        if self._timer is None:
            self._look_later(connection.loop)
        if self._by_client[client] > bounds.connections_per_client:
            return RateLimited(
                f"There are {bounds.connections_per_client} connections from your address already.",
                retry_after_s=1,
            )
        if len(self._connections) > bounds.connections:
            return Saturated("connections", bounds.connections)
        return None

    def leave(self, connection: Guarded, client: str) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    @property
    def overrun(self) -> bool:
        return len(self._connections) > self.bounds.connections + TURNED_AWAY

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._every_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._connections:
            return
        self._look_later(loop)
        now = loop.time()
        for connection in list(self._connections):
            connection.look(now)
