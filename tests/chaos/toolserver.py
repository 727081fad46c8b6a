"""What the agents' tools do, where it can be counted: an HTTP server outside of the runtime.

A call counts at its end, whether or not somebody still waits for the answer.
"""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

import orjson


class ToolServer:
    """`POST /{tool}` with `{"token": …}`: takes `lasts_s`, counts, answers with its number."""

    def __init__(self, lasts_s: float = 0.03) -> None:
        self._lasts_s = lasts_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: dict[str, bytes] = {}
        self.begun: Counter[str] = Counter()
        """By token."""
        self.done: Counter[str] = Counter()
        self.keys: dict[str, set[str]] = {}
        """The idempotency keys that came with each token."""

    @property
    def url(self) -> str:
        assert self._server
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def at_work(self, token: str) -> bool:
        return self.begun[token] > self.done[token]

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
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
            body = await reader.readexactly(int(fields["content-length"]))
            answer = await self._call(orjson.loads(body)["token"], fields.get("idempotency-key"))
            head_out = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(answer)}"
            writer.write(f"{head_out}\r\n\r\n".encode() + answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # Whoever asked has been killed; what was asked for is done all the same.
        finally:
            writer.close()

    async def _call(self, token: str, key: str | None) -> bytes:
        self.begun[token] += 1
        if key:
            self.keys.setdefault(token, set()).add(key)
        await asyncio.sleep(self._lasts_s)
        self.done[token] += 1
        return f"result-{token}-{self.done[token]}".encode()
