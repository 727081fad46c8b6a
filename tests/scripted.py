"""A tiny HTTP server that answers what it is told to, and remembers what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        return json.loads(self.body)


@dataclass
class Reply:
    """`cut`: the connection is closed after the body, whatever length was announced."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    @property
    def wire(self) -> bytes:
        length = len(self.body) + (1_000 if self.cut else 0)
        headers = {"Content-Type": "application/json", "Content-Length": str(length)}
        lines = [f"HTTP/1.1 {self.status} Said"]
        lines += [f"{name}: {value}" for name, value in (headers | self.headers).items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


HANG_UP = Reply(b"", status=0)
"""Closes the connection without a word."""
SILENCE = Reply(b"", status=0, cut=True)
"""Says nothing until the client is gone."""


def saying(body: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body).encode(), status, named)


def streaming(*frames: object, cut: bool = False) -> Reply:
    text = "".join(
        f"data: {frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)}\n\n"
        for frame in frames
    )
    return Reply(text.encode(), headers={"Content-Type": "text/event-stream"}, cut=cut)


@dataclass
class Scripted:
    url: str
    replies: list[Reply]
    asked: list[Asked] = field(default_factory=list)


@asynccontextmanager
async def scripted(*replies: Reply) -> AsyncIterator[Scripted]:
    """Gives the replies in their order, the last one for ever."""
    script = Scripted("", list(replies))

    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        try:
            while await _answer(script, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving)


async def _answer(
    script: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Whether the connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ", 2)
    script.asked.append(Asked(method, path, headers, body))
    reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
    if reply is SILENCE:
        await reader.read()
        return False
    if reply is not HANG_UP:
        writer.write(reply.wire)
        await writer.drain()
    return reply is not HANG_UP and not reply.cut
