"""The load: connections that ask again and again, counting what comes without looking into it.

A process of its own, `python -m tests.benchmarks.load`: one job a line in, one result a line out,
as JSON. `Generator` is its other end.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, cast
from uuid import uuid4

import httptools
import orjson
import uvloop

from tests.benchmarks.upstream import MARK, TOKENS, WHOLE_ANSWER

REPOSITORY = Path(__file__).parents[2]
_TAIL = 256
"""Bytes kept of what came, to find what a cut divides and to recognise the end."""
_WS_END = b'"message_type":"stream_end"'
_OPEN = b"open\n"

Door = Literal["openai", "streaming", "websocket"]
"""`/v1/chat/completions`; `/api/streaming/chat` with `sse`; `/api/streaming/ws/`."""
_PATHS: dict[Door, str] = {"openai": "/v1/chat/completions", "streaming": "/api/streaming/chat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    port: int
    token: str
    model: str = "bench"
    connections: int
    stream: bool
    seconds: float = 0
    """How long connections ask again once they are answered; 0: each asks once."""
    tokens: int = TOKENS
    delay_ms: int = 0
    run: str = field(default_factory=lambda: uuid4().hex)
    """In the names of new sessions."""
    door: Door = "openai"
    models: Sequence[str] = ()
    """Asked in place of an agent at a streaming door; several at once, by `interleaved`."""
    hold: bool = False
    """Once every stream has begun say so, wait for a line, and hang up on them all."""
    turns: int = 0
    """How many turns a session has before the next one is begun; 0: there are no sessions."""
    conversations: Sequence[str] = ()
    """Sessions that are there, one for each connection, in place of new ones."""
    limit_s: float = 60
    """What is not answered by then is an error."""

    def session(self, connection: int, asked: int) -> str:
        """Whose turn a connection's next request is; empty: nobody's."""
        if self.conversations:
            return self.conversations[connection]
        return f"bench-{self.run}-{connection}-{asked // self.turns}" if self.turns else ""

    def request(self, session: str = "") -> bytes:
        body = orjson.dumps({**self._asked(), "stream": self.stream})
        head = (
            f"POST {_PATHS[self.door]} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            + (f"X-Session-Id: {session}\r\n" if session else "")
            + f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def handshake(self) -> bytes:
        return (
            f"GET /api/streaming/ws/bench HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()

    def chat_request(self) -> bytes:
        """As one text frame, masked with zeros (RFC 6455 §5.2)."""
        payload = orjson.dumps({"message_type": "chat_request", "data": self._asked()})
        return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload

    def is_whole(self, tokens: int, tail: bytes) -> bool:
        """Whether so many came, and `tail` is that of a stream's proper end."""
        several = len(self.models) > 1
        ends: dict[Door, bytes] = {
            "openai": b"data: [DONE]",
            "streaming": b'{"type":"done"}' if several else b'{"type":"finish"',
            "websocket": b'"completed"',
        }
        return tokens == self.tokens * max(1, len(self.models)) and ends[self.door] in tail

    def _asked(self) -> dict[str, Any]:
        text = f"What is the answer? tokens:{self.tokens} delay:{self.delay_ms}"
        messages = [{"role": "user", "content": text}]
        if self.models:
            mode = "interleaved" if len(self.models) > 1 else "standard"
            return {"providers": self.models, "generator_mode": mode, "messages": messages}
        whom = "model" if self.door == "openai" else "agent_id"
        return {whom: self.model, "messages": messages}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    answers: int
    tokens: int
    errors: int
    seconds: float
    latency_p50_ms: float
    latency_p95_ms: float
    first_token_p50_ms: float
    first_token_p95_ms: float


@dataclass
class Load:
    """One job while it goes on."""

    job: Job
    answers: int = 0
    tokens: int = 0
    errors: int = 0
    latencies_s: list[float] = field(default_factory=list)
    first_tokens_s: list[float] = field(default_factory=list)
    _begun: int = 0
    _open: int = 0

    def __post_init__(self) -> None:
        self.request = b"" if self.job.door == "websocket" else self.job.request()
        self._until = 0.0
        self._all_begun = asyncio.Event()
        self._finished = asyncio.Event()

    async def run(self, announce: Callable[[], None]) -> Result:
        connect = asyncio.get_running_loop().create_connection
        since = perf_counter()
        self._until = since + self.job.seconds
        self._open = self.job.connections
        kind = WebSocketConnection if self.job.door == "websocket" else Connection
        connections = [
            (await connect(partial(kind, self, number), "127.0.0.1", self.job.port))[1]
            for number in range(self.job.connections)
        ]
        try:
            async with asyncio.timeout(self.job.limit_s):
                if self.job.hold:
                    await self._all_begun.wait()
                    announce()
                    await asyncio.to_thread(sys.stdin.buffer.readline)
                    self.answers = len(connections)
                else:
                    await self._finished.wait()
        except TimeoutError:
            self.errors += self._open
        seconds = perf_counter() - since
        for connection in connections:
            connection.let_go()
        return Result(
            answers=self.answers,
            tokens=self.tokens,
            errors=self.errors,
            seconds=seconds,
            latency_p50_ms=percentile_ms(self.latencies_s, 50),
            latency_p95_ms=percentile_ms(self.latencies_s, 95),
            first_token_p50_ms=percentile_ms(self.first_tokens_s, 50),
            first_token_p95_ms=percentile_ms(self.first_tokens_s, 95),
        )

    def begun(self, first_token_s: float) -> None:
        self.first_tokens_s.append(first_token_s)
        self._begun += 1
        if self._begun == self.job.connections:
            self._all_begun.set()

    def asks_again(self) -> bool:
        return perf_counter() < self._until

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._all_begun.set()
            self._finished.set()


class Connection(asyncio.Protocol):
    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._count = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._asked = False
        self._let_go = False
        self._since = 0.0
        self._tokens = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._let_go:
            return
        if self._asked:
            self._load.errors += 1
        self._load.closed()

    def let_go(self) -> None:
        self._let_go = True
        self._transport.abort()

    def on_body(self, body: bytes) -> None:
        known = len(self._tail)
        seen = self._tail + body
        count = seen.count(MARK, max(0, known - len(MARK) + 1))
        if count:
            if not self._tokens and self._load.job.stream:
                self._load.begun(perf_counter() - self._since)
            self._tokens += count
        self._tail = seen[-_TAIL:] if self._load.job.stream else seen

    def on_message_complete(self) -> None:
        complete = self._parser.get_status_code() == 200 and self._complete()
        self._answered(complete, keep=self._parser.should_keep_alive())

    def _answered(self, complete: bool, *, keep: bool) -> None:
        load = self._load
        if complete:
            load.answers += 1
            load.tokens += self._tokens
            load.latencies_s.append(perf_counter() - self._since)
        else:
            load.errors += 1
        self._asked = False
        if load.asks_again() and keep:
            self._ask()
        else:
            self._transport.close()

    def _ask(self) -> None:
        self._begin()
        job = self._load.job
        session = job.session(self._number, self._count)
        self._count += 1
        self._transport.write(job.request(session) if session else self._load.request)

    def _begin(self) -> None:
        self._asked = True
        self._tokens = 0
        self._tail = b""
        self._since = perf_counter()

    def _complete(self) -> bool:
        if self._load.job.stream:
            return self._load.job.is_whole(self._tokens, self._tail)
        return WHOLE_ANSWER.encode() in self._tail


class WebSocketConnection(Connection):
    """Frames are not taken apart: their text is not masked, and nothing else looks like it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open = False
        self._begin()
        self._transport.write(self._load.job.handshake())

    def data_received(self, data: bytes) -> None:
        if not self._open:
            if not data.startswith(b"HTTP/1.1 101 "):
                self._transport.abort()
                return
            self._open = True
            self._ask()
            return
        self.on_body(data)
        if _WS_END in self._tail:
            self._answered(self._load.job.is_whole(self._tokens, self._tail), keep=True)

    def _ask(self) -> None:
        self._begin()
        self._transport.write(self._load.job.chat_request())


class Generator:
    """The load's process, started and ended with the block."""

    def __enter__(self) -> "Generator":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def run(self, job: Job, while_open: Callable[[], None] | None = None) -> Result:
        """`while_open` is called while every stream of a job that holds is open."""
        self._write(orjson.dumps(asdict(job)) + b"\n")
        answer = self._read()
        if answer == _OPEN:
            if while_open:
                while_open()
            self._write(b"\n")
            answer = self._read()
        return Result(**orjson.loads(answer))

    def _write(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _read(self) -> bytes:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; its error is above")
        return line


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """0 where nothing was measured."""
    if not seconds:
        return 0.0
    return sorted(seconds)[(len(seconds) - 1) * percent // 100] * 1_000


def main() -> None:
    for line in sys.stdin.buffer:
        job: dict[str, Any] = orjson.loads(line)
        result = uvloop.run(Load(Job(**job)).run(lambda: _say(_OPEN)))
        _say(orjson.dumps(asdict(result)) + b"\n")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
