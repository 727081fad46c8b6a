import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from tests.upstream import answers, faults
from tests.upstream.wire import Behaviour, Connection, Exchange, Recorded


class FakeUpstream:
    def __init__(self, *behaviours: Behaviour, port: int = 0) -> None:
        self._script = deque(behaviours)
        self._port = port
        self._bursts: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self.requests: list[Recorded] = []
        self.connections: set[Connection] = set()
        self.connections_made = 0
        self.arrived = asyncio.Event()
        """Set when a request comes; a test may clear it."""

    def script(self, *behaviours: Behaviour) -> None:
        """One for each of the next requests."""
        self._script.extend(behaviours)

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            await connection.finish()
        await self._server.wait_closed()

    async def serve_forever(self) -> None:
        assert self._server is not None
        await self._server.serve_forever()

    def nth_try(self, key: str) -> int:
        self._bursts[key] = self._bursts.get(key, 0) + 1
        return self._bursts[key]

    async def behaviour(self, exchange: Exchange) -> None:
        if self._script:
            await self._script.popleft()(exchange)
        elif exchange.request.path == "/v1/embeddings":
            fault = faults.asked_for(exchange.json)
            await (fault or answers.embed)(exchange)
        elif exchange.request.path != "/v1/chat/completions":
            await exchange.respond(404, b'{"error":{"message":"no such path"}}')
        else:
            fault = faults.asked_for(exchange.json)
            await (fault or answers.echo)(exchange)

    def _accept(self) -> Connection:
        self.connections_made += 1
        return Connection(self, self.connections_made)
