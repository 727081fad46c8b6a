"""A PostgreSQL connection that fails as networks and servers fail, at the worst moment.

It reads as much of the protocol as it takes to know when a transaction has written something and
is now committed: https://www.postgresql.org/docs/current/protocol-message-formats.html. Without
TLS: connect with `sslmode=disable&gssencmode=disable`.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

WRITES = re.compile(rb"\b(insert\s+into|update|delete\s+from|merge\s+into)\b", re.IGNORECASE)
"""`FOR UPDATE` too: a reply too many is lost, that is all."""
IDLE = b"I"
"""The status of a connection outside of a transaction."""


class Messages:
    """Cuts what one side sends into messages: a type, and all its bytes."""

    def __init__(self, *, startup: bool) -> None:
        self._startup = startup
        """The first message of a client has no type."""
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._buffer += data
        while True:
            kind = 0 if self._startup else 1
            if len(self._buffer) < kind + 4:
                return
            length = kind + struct.unpack_from("!i", self._buffer, kind)[0]
            if len(self._buffer) < length:
                return
            message, self._buffer = self._buffer[:length], self._buffer[length:]
            self._startup = False
            yield message[:kind], message


class Statements:
    """What one client has asked for, as far as its transaction writes something."""

    def __init__(self) -> None:
        self._writing: set[bytes] = set()
        """Names of prepared statements."""
        self.wrote = False

    def sent(self, kind: bytes, message: bytes) -> None:
        body = message[5:]
        if kind == b"Q":
            self.wrote |= bool(WRITES.search(body))
        elif kind == b"P":
            name, _, rest = body.partition(b"\0")
            if WRITES.search(rest):
                self._writing.add(name)
            else:
                self._writing.discard(name)
        elif kind == b"B":
            _, _, rest = body.partition(b"\0")
            self.wrote |= rest.partition(b"\0")[0] in self._writing

    def answered(self, status: bytes) -> bool:
        """An answer is complete; whether writes have been committed, or undone, with it."""
        ended = status == IDLE and self.wrote
        if status == IDLE:
            self.wrote = False
        return ended


class Link:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, proxy: "FaultProxy", client: "Side", server: "Side") -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self._statements = Statements()
        self._asked = Messages(startup=True)
        self._told = Messages(startup=False)
        self._held: list[bytes] = []
        self._failed = False

    async def carry(self) -> None:
        """Until one side ends."""
        tasks = [asyncio.create_task(each) for each in (self._forth(), self._back())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.cut()

    def cut(self) -> None:
        """Both ends, as a network does it: with a reset."""
        for side in (self._client, self._server):
            side.reset()

    async def _forth(self) -> None:
        while data := await self._client.read():
            for kind, message in self._asked.feed(data):
                self._statements.sent(kind, message)
            await self._proxy.passable()
            await self._server.write(data)

    async def _back(self) -> None:
        while data := await self._server.read():
            await self._proxy.passable()
            if not await self._tell(data):
                return

    async def _tell(self, data: bytes) -> bool:
        """Whole messages, and the answer to what may commit not before its end; False: lost."""
        for kind, message in self._told.feed(data):
            self._held.append(message)
            self._failed |= kind == b"E" or (kind == b"C" and message[5:13] == b"ROLLBACK")
            if kind == b"Z":
                committed = self._statements.answered(message[5:6]) and not self._failed
                self._failed = False
                if committed and self._proxy.takes_commit():
                    return False
                await self._release()
        if self._held and not (self._proxy.armed and self._statements.wrote):
            await self._release()
        return True

    async def _release(self) -> None:
        held, self._held = self._held, []
        await self._client.write(b"".join(held))


class Side:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """Nothing at the end, in good order or not."""
        with suppress(ConnectionError, TimeoutError):
            return await self._reader.read(65_536)
        return b""

    async def write(self, data: bytes) -> None:
        with suppress(ConnectionError, TimeoutError):
            self._writer.write(data)
            await self._writer.drain()

    def reset(self) -> None:
        handle = self._writer.get_extra_info("socket")
        with suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class FaultProxy:
    """In front of one PostgreSQL server, for one client process, on a port of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._to_lose = 0
        self._server: asyncio.Server | None = None
        self.refusing = False
        """New connections are closed at once."""
        self.delay_s = 0.0
        """How long everything takes on its way."""
        self.lost_commits = 0

    @property
    def port(self) -> int:
        assert self._server
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def armed(self) -> bool:
        return self._to_lose > 0

    def lose_commits(self, count: int) -> None:
        """The next `count` commits of something written arrive; their answers do not, and the
        connection is gone."""
        self._to_lose = count

    def takes_commit(self) -> bool:
        if not self.armed:
            return False
        self._to_lose -= 1
        self.lost_commits += 1
        return True

    def cut(self) -> None:
        for link in list(self._links):
            link.cut()

    def freeze(self) -> None:
        """Nothing passes in either direction, and nobody is told."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def heal(self) -> None:
        self.refusing, self.delay_s, self._to_lose = False, 0.0, 0
        self.thaw()

    async def passable(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._open.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(Side(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, client: Side) -> None:
        if self.refusing:
            client.reset()
            return
        try:
            server = Side(*await asyncio.open_connection(*self._target))
        except OSError:
            client.reset()
            return
        link = Link(self, client, server)
        self._links.add(link)
        try:
            await link.carry()
        finally:
            self._links.discard(link)
