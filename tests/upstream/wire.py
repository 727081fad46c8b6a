"""The HTTP side: just enough of HTTP/1.1 to answer well and badly on purpose."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from tests.upstream.dialects import dialect_of

if TYPE_CHECKING:
    from tests.upstream.server import FakeUpstream


@dataclass(eq=False)
class Recorded:
    """One request as it came."""

    method: str
    path: str
    """Without the query."""
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """Requests on one connection share it."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """The connection is gone, whoever closed it."""
    closed_by_client: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """The answer was sent to its end."""
    began: asyncio.Event = field(default_factory=asyncio.Event)
    """The first byte of the answer was sent."""

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        return orjson.loads(self.body)


class Exchange:
    """A request and the means to answer it, byte by byte if need be."""

    def __init__(self, connection: "Connection", request: Recorded, upstream: "FakeUpstream"):
        self._connection = connection
        self._chunked = False
        self.request = request
        self.upstream = upstream
        self.say = dialect_of(request.path)

    @property
    def asked(self) -> Any:  # noqa: ANN401 - JSON is anything
        """The request in OpenAI's terms, whatever the wire."""
        return self.say.asked(self.json)

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        return self.request.json

    def start(
        self,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Status line and headers; without a length the body is sent in chunks."""
        fields = {"Content-Type": "text/event-stream; charset=utf-8", **(headers or {})}
        self._chunked = length is None
        fields |= (
            {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        )
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in fields.items())]
        self._connection.write("\r\n".join([*lines, "", ""]).encode())

    async def write(self, data: bytes) -> None:
        self.request.began.set()
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        self._connection.write(framed)
        await self._connection.drain()

    async def end(self) -> None:
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        await self._connection.drain()
        self.request.answered.set()

    async def respond(
        self, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        fields = {"Content-Type": "application/json", **(headers or {})}
        self.start(status, fields, length=len(body))
        await self.write(body)
        await self.end()

    def close(self) -> None:
        """End the connection in good order, in the middle of whatever was being sent."""
        self._connection.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._connection.reset()

    async def hang(self) -> None:
        """Until the client goes away."""
        await self.request.closed.wait()


Behaviour = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    def __init__(self, upstream: "FakeUpstream", number: int) -> None:
        self._upstream = upstream
        self._number = number
        self._buffer = b""
        self._request: Recorded | None = None
        self._task: asyncio.Task[None] | None = None
        self._ours = False
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None or self._task.done():
            self._next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.connections.discard(self)
        self._writable.set()
        if self._request is not None:
            self._request.closed_by_client = not self._ours
            self._request.closed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError

    def close(self) -> None:
        self._ours = True
        self._transport.close()

    def reset(self) -> None:
        self._ours = True
        handle: socket.socket = self._transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _next_request(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        path, _, query = path.partition("?")
        request = Recorded(method, path, query, headers, rest[:length], self._number)
        self._request = request
        self._upstream.requests.append(request)
        self._upstream.arrived.set()
        self._task = asyncio.ensure_future(self._answer(request))

    async def _answer(self, request: Recorded) -> None:
        exchange = Exchange(self, request, self._upstream)
        try:
            await self._upstream.behaviour(exchange)
        except ConnectionResetError:
            return
        except BaseException:
            self.close()
            raise
        if not self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._next_request)

    async def finish(self) -> None:
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
