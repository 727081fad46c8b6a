"""HTTP by hand, for what no client library sends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        return json.loads(self.body)


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))
        await self.writer.drain()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """What came until the server closed."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def connected(url: str, address: str = "127.0.0.1") -> AsyncIterator[Wire]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def request(
    method: str = "GET", path: str = "/healthz", *headers: str, host: str = "127.0.0.1"
) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def chat(text: str, *, key: str = "", **options: object) -> bytes:
    messages = [{"role": "user", "content": text}]
    return _posted("/v1/chat/completions", {"messages": messages, **options}, key)


def respond(text: str, **options: object) -> bytes:
    return _posted("/v1/responses", {"input": text, **options})


def _posted(path: str, fields: dict[str, object], key: str = "") -> bytes:
    body = json.dumps({"model": "assistant", **fields}).encode()
    named = [f"Idempotency-Key: {key}"] if key else []
    length = f"Content-Length: {len(body)}"
    return request("POST", path, "Content-Type: application/json", length, *named) + body
