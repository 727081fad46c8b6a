"""Everything a provider does wrong, each as a behaviour for one request."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from tests.upstream.answers import DONE, chunk, echo, event, last_user_text, sse
from tests.upstream.wire import Behaviour, Exchange

_WORDS = ("One ", "two ", "three ", "four ")


def status(code: int, body: object = None, headers: dict[str, str] | None = None) -> Behaviour:
    """An error answer; `body` is sent as JSON, unless it is bytes."""
    told = {"error": {"message": f"told {code}", "type": "t", "param": None, "code": None}}

    async def answer(exchange: Exchange) -> None:
        said = body if isinstance(body, bytes) else orjson.dumps(told if body is None else body)
        await exchange.respond(code, said, headers)

    return answer


def rate_limited(**headers: str) -> Behaviour:
    return status(429, headers={name.replace("_", "-"): value for name, value in headers.items()})


def quota() -> Behaviour:
    return status(429, {"error": {"message": "no money", "code": "insufficient_quota"}})


def redirect(to: str) -> Behaviour:
    return status(307, b"", {"Location": to})


async def burst(exchange: Exchange) -> None:
    """Two failures, then an answer, counted by message."""
    ill = exchange.upstream.nth_try(last_user_text(exchange.json)) <= 2
    await (status(503) if ill else echo)(exchange)


async def busy(exchange: Exchange) -> None:
    """One rate limit, then an answer, counted by message."""
    early = exchange.upstream.nth_try(last_user_text(exchange.json)) == 1
    await (rate_limited(Retry_After="1") if early else echo)(exchange)


async def slow_headers(exchange: Exchange) -> None:
    await exchange.hang()


async def silent_headers(exchange: Exchange) -> None:
    """Headers and keep-alive comments, but never a token."""
    exchange.start()
    await exchange.write(b": working on it\n\n")
    await exchange.hang()


async def _begin(exchange: Exchange, words: int) -> None:
    exchange.start()
    await exchange.write(event(chunk({"role": "assistant", "content": ""})))
    for word in _WORDS[:words]:
        await exchange.write(event(chunk({"content": word})))


def _after(words: int, then: Callable[[Exchange], object]) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, words)
        then(exchange)

    return answer


def stall(after: int = 2) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, after)
        await exchange.hang()

    return answer


def cut(after: int = 2) -> Behaviour:
    """The connection ends in the middle of the chunked body."""
    return _after(after, Exchange.close)


def reset(after: int = 2) -> Behaviour:
    return _after(after, Exchange.reset)


def _then(*rest: bytes, after: int) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, after)
        for piece in rest:
            await exchange.write(piece)
        await exchange.end()

    return answer


def no_finish(after: int = 2, *, done: bool = False) -> Behaviour:
    """A body that ends in good order, without a finish reason."""
    return _then(DONE if done else b": bye\n\n", after=after)


def no_done() -> Behaviour:
    return _then(event(chunk(finish="stop")), after=2)


def garbage_json(after: int = 2) -> Behaviour:
    return _then(b'data: {"choices": [{"del\n\n', DONE, after=after)


def error_event(error: object, after: int = 2) -> Behaviour:
    return _then(event({"error": error}), after=after)


async def garbage(exchange: Exchange) -> None:
    await exchange.respond(
        200, bytes(range(256)) * 40, {"Content-Type": "application/octet-stream"}
    )


def html() -> Behaviour:
    return status(200, b"<html><body>Welcome</body></html>", {"Content-Type": "text/html"})


def huge_line(after: int = 0, *, size: int = 50 * 1024 * 1024) -> Behaviour:
    """One line of `size` bytes."""

    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, after)
        await exchange.write(b'data: {"choices":[{"index":0,"delta":{"content":"')
        piece = b"x" * 65_536
        for _ in range(size // len(piece)):
            await exchange.write(piece)
        await exchange.write(b'"},"finish_reason":"stop"}]}\n\n')
        await exchange.end()

    return answer


def bytewise(*payloads: object) -> Behaviour:
    """Every byte in a chunk of its own, so also within characters and line ends."""
    said = payloads or (chunk({"content": "Grüße, 世界 🌍"}), chunk(finish="stop"))

    async def answer(exchange: Exchange) -> None:
        exchange.start()
        for byte in sse(*said).replace(b"\n", b"\r\n"):
            await exchange.write(bytes([byte]))
        await exchange.end()

    return answer


def cut_tool_call(*, end: bool = False) -> Behaviour:
    """A call whose arguments break off; `end` closes the body in good order."""
    function = {"name": "transfer", "arguments": '{"amount": 1'}
    piece = {"index": 0, "id": "call_1", "type": "function", "function": function}

    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, 0)
        await exchange.write(event(chunk({"tool_calls": [piece]})))
        await exchange.end() if end else exchange.close()

    return answer


BY_NAME: dict[str, Behaviour] = {
    "rate-limited": rate_limited(Retry_After="1"),
    "quota": quota(),
    "burst": burst,
    "busy": busy,
    "slow-headers": slow_headers,
    "silent-headers": silent_headers,
    "stall": stall(),
    "cut": cut(),
    "reset": reset(),
    "no-finish": no_finish(),
    "no-done": no_done(),
    "garbage": garbage,
    "garbage-json": garbage_json(),
    "error-event": error_event({"message": "overloaded", "code": "server_error"}),
    "huge-line": huge_line(),
    "bytewise": bytewise(),
    "redirect": redirect("http://127.0.0.1:9/v1/chat/completions"),
    "cut-tool-call": cut_tool_call(),
}


def _said(request: dict[str, Any]) -> str:
    return last_user_text(request) if "messages" in request else str(request.get("input"))


def asked_for(request: dict[str, Any]) -> Behaviour | None:
    model = re.fullmatch(r"fault-([a-z0-9-]+)", request.get("model", ""))
    said = model or re.search(r"\bfault:([a-z0-9-]+)", _said(request))
    if not said:
        return None
    name = said.group(1)
    code = re.fullmatch(r"\d{3}", name)
    unknown = {"error": {"message": f"there is no fault named {name}"}}
    return status(int(code.group())) if code else BY_NAME.get(name, status(400, unknown))
