import asyncio
import re
from collections import deque
from types import TracebackType
from typing import Self

from tests.upstream import answers, faults
from tests.upstream.wire import Behaviour, Connection, Exchange, Recorded

OUTAGE = "/outage"
"""`PUT` begins one, `DELETE` ends it: for a fake in a process of its own."""
_PLAIN = re.compile("/v1/(?:chat/completions|embeddings|messages)")
_AZURE = re.compile("/openai/(?:v1|(?P<dated>deployments/[^/]+))/(?:chat/completions|embeddings)")


def _refused(request: Recorded) -> Behaviour | None:
    """What the wire's own rules say to a request."""
    azure = _AZURE.fullmatch(request.path)
    if azure:
        dated = "api-version=" in request.query
        if azure["dated"] and not dated:
            return faults.status(404)
        return None if request.headers.get("api-key") else faults.status(401)
    if not _PLAIN.fullmatch(request.path):
        return faults.status(404, {"error": {"message": "no such path"}})
    if request.path.endswith("/messages"):
        if request.headers.get("anthropic-version") != "2023-06-01":
            return faults.status(400)
        if not request.headers.get("x-api-key"):
            return faults.status(401)
    return None


class FakeUpstream:
    def __init__(self, *behaviours: Behaviour, port: int = 0) -> None:
        self._script = deque(behaviours)
        self._port = port
        self._bursts: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self.outage: Behaviour | None = None
        """While it is set, what every request gets, such as `faults.status(503)`."""
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

    @property
    def azure_url(self) -> str:
        """Where an Azure resource is: the paths below it need the header `api-key`."""
        return self.base_url.removesuffix("/v1")

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
        path = exchange.request.path
        if path == OUTAGE:
            await self._switch(exchange)
            return
        if self.outage is not None:
            await self.outage(exchange)
            return
        if self._script:
            await self._script.popleft()(exchange)
            return
        refusal = _refused(exchange.request)
        if refusal is not None:
            await refusal(exchange)
        elif path.endswith("/embeddings"):
            fault = faults.asked_for(exchange.json)
            await (fault or answers.embed)(exchange)
        else:
            fault = faults.asked_for(exchange.asked)
            await (fault or answers.echo)(exchange)

    async def _switch(self, exchange: Exchange) -> None:
        self.outage = faults.status(503) if exchange.request.method == "PUT" else None
        await exchange.respond(200, b"{}")

    def _accept(self) -> Connection:
        self.connections_made += 1
        return Connection(self, self.connections_made)
