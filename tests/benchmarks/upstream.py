"""A model provider that costs next to nothing: prepared bytes, written as fast as they are taken.

`python -m tests.benchmarks.upstream PORT`. The request's text may ask for `tokens:N` (64 unless
told) and `delay:MS` before each. Every token is a write of its own, and streams take turns: what
comes in one piece at the other end was joined by the socket, because the reader was slower.
"""

import asyncio
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import cast

import orjson
import uvloop

TOKENS = 64
MARK = b" tok"
"""In every token of a stream, and nowhere else."""
WHOLE_ANSWER = "The answer is forty-two, as it always was."

_USAGE = {"prompt_tokens": 12, "completion_tokens": TOKENS, "total_tokens": 12 + TOKENS}
_TOKENS_ASKED = re.compile(rb"tokens:(\d+)")
_DELAY_ASKED = re.compile(rb"delay:(\d+)")
_STREAM_ASKED = re.compile(rb'"stream":\s*true')
_USAGE_ASKED = re.compile(rb'"include_usage":\s*true')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def stream_text(tokens: int = TOKENS) -> str:
    return "".join(f"{MARK.decode()}{index}" for index in range(tokens))


class Provider(asyncio.Protocol):
    """One keep-alive connection. Requests carry a Content-Length and are not pipelined."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = b""
        self._pieces: Iterator[bytes] = iter(())
        self._delay_s = 0.0
        self._scheduled: asyncio.Handle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pieces = iter(())
        if self._scheduled:
            self._scheduled.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = _LENGTH.search(head)
        if length and len(body) < int(length[1]):
            return
        self._received = b""
        self._answer(body)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._scheduled is None:
            self._write_next()

    def _answer(self, body: bytes) -> None:
        if not _STREAM_ASKED.search(body):
            self._transport.write(_whole())
            return
        tokens, delay = _TOKENS_ASKED.search(body), _DELAY_ASKED.search(body)
        self._delay_s = int(delay[1]) / 1_000 if delay else 0.0
        usage = _USAGE_ASKED.search(body) is not None
        self._pieces = iter(_pieces(int(tokens[1]) if tokens else TOKENS, usage=usage))
        self._write_next()

    def _write_next(self) -> None:
        self._scheduled = None
        if self._paused:
            return
        piece = next(self._pieces, None)
        if piece is None:
            return
        self._transport.write(piece)
        if self._delay_s:
            self._scheduled = self._loop.call_later(self._delay_s, self._write_next)
        else:
            self._scheduled = self._loop.call_soon(self._write_next)


@lru_cache
def _whole() -> bytes:
    message = {"role": "assistant", "content": WHOLE_ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = orjson.dumps({**_head("chat.completion"), "choices": [choice], "usage": _USAGE})
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        )
    )


@lru_cache
def _pieces(tokens: int, *, usage: bool) -> tuple[bytes, ...]:
    """The writes of one streamed response, head and end of its HTTP body included."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    more = {"usage": None} if usage else {}
    begin = _frame(_delta({"role": "assistant", "content": "", "refusal": None}) | more)
    words = [f"{MARK.decode()}{index}" for index in range(tokens)]
    end = _frame(_delta({}, finish="stop") | more)
    if usage:
        end += _frame({**_head("chat.completion.chunk"), "choices": [], "usage": _USAGE})
    end += _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return (head + begin, *(_frame(_delta({"content": word}) | more) for word in words), end)


def _delta(delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_head("chat.completion.chunk"), "choices": [choice]}


def _head(kind: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-0123456789abcdef",
        "object": kind,
        "created": 1_750_000_000,
        "model": "fast-fake",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _frame(payload: dict[str, object]) -> bytes:
    return _chunk(b"data: " + orjson.dumps(payload) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        Provider, "127.0.0.1", port, backlog=2_048
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
