"""Everything a provider does wrong, each as a behaviour for one request, on every wire.

A request that does not stream gets the same fault in the middle of its one piece.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import orjson

from tests.upstream.answers import echo, last_user_text, sse
from tests.upstream.wire import Behaviour, Exchange

_WORDS = ("One ", "two ", "three ", "four ")
_USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
_JSON = {"Content-Type": "application/json"}


def status(code: int, body: object = None, headers: dict[str, str] | None = None) -> Behaviour:
    """An error answer; `body` is sent as JSON, unless it is bytes."""

    async def answer(exchange: Exchange) -> None:
        told = exchange.say.refusal(code) if body is None else body
        said = told if isinstance(told, bytes) else orjson.dumps(told)
        await exchange.respond(code, said, headers)

    return answer


def rate_limited(**headers: str) -> Behaviour:
    return status(429, headers={name.replace("_", "-"): value for name, value in headers.items()})


def quota() -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        code, body = exchange.say.quota()
        await exchange.respond(code, orjson.dumps(body))

    return answer


def redirect(to: str) -> Behaviour:
    return status(307, b"", {"Location": to})


async def burst(exchange: Exchange) -> None:
    """Two failures, then an answer, counted by message."""
    ill = exchange.upstream.nth_try(last_user_text(exchange.asked)) <= 2
    await (status(503) if ill else echo)(exchange)


async def busy(exchange: Exchange) -> None:
    """One rate limit, then an answer, counted by message."""
    early = exchange.upstream.nth_try(last_user_text(exchange.asked)) == 1
    await (rate_limited(Retry_After="1") if early else echo)(exchange)


async def slow_headers(exchange: Exchange) -> None:
    await exchange.hang()


async def silent_headers(exchange: Exchange) -> None:
    """Headers and keep-alive comments, but never a token."""
    exchange.start()
    await exchange.write(b": working on it\n\n")
    await exchange.hang()


async def pings_only(exchange: Exchange) -> None:
    """Signs of life without end, but never a token."""
    await _forever(exchange, exchange.say.ping, begun=False)


async def never_ending(exchange: Exchange) -> None:
    """Tokens without end."""
    await _forever(exchange, exchange.say.word("on "), begun=True)


async def _forever(exchange: Exchange, event: bytes, *, begun: bool) -> None:
    if not _streams(exchange):
        exchange.start(headers=_JSON)
        event = b" "
    else:
        exchange.start()
        if begun:
            await exchange.write(exchange.say.opening() + exchange.say.word("On "))
            event = exchange.say.word("and on ")
    while True:
        await exchange.write(event)
        await asyncio.sleep(0.01)


def _streams(exchange: Exchange) -> bool:
    return bool(exchange.json.get("stream"))


async def _begin(exchange: Exchange, words: int) -> None:
    """Some words, or half of an answer in one piece."""
    if _streams(exchange):
        exchange.start()
        await exchange.write(exchange.say.opening())
        for word in _WORDS[:words]:
            await exchange.write(exchange.say.word(word))
    else:
        exchange.start(headers=_JSON)
        whole = exchange.say.whole(_WORDS, [], "stop", _USAGE)
        await exchange.write(whole[: len(whole) // 2])


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


def _then(rest: Callable[[Exchange], bytes], *, after: int) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, after)
        if _streams(exchange):
            await exchange.write(rest(exchange))
        await exchange.end()

    return answer


def no_finish(after: int = 2, *, done: bool = False) -> Behaviour:
    """A body that ends in good order, without a finish reason."""
    streamed = _then(lambda exchange: exchange.say.done if done else b": bye\n\n", after=after)

    async def answer(exchange: Exchange) -> None:
        if _streams(exchange):
            await streamed(exchange)
        else:
            await exchange.respond(200, exchange.say.whole(_WORDS, [], None, _USAGE))

    return answer


def no_done() -> Behaviour:
    streamed = _then(lambda exchange: exchange.say.ending("stop", None), after=2)

    async def answer(exchange: Exchange) -> None:
        await (streamed if _streams(exchange) else echo)(exchange)

    return answer


def garbage_json(after: int = 2) -> Behaviour:
    return _then(lambda exchange: b'data: {"choices": [{"del\n\n' + exchange.say.done, after=after)


def error_event(error: object = None, after: int = 2) -> Behaviour:
    """None: that the provider is overloaded."""

    async def answer(exchange: Exchange) -> None:
        told = exchange.say.overload if error is None else error
        if not _streams(exchange):
            body = {"type": "error", "error": told}
            await exchange.respond(200, orjson.dumps(body))
            return
        await _begin(exchange, after)
        await exchange.write(exchange.say.error(told))
        await exchange.end()

    return answer


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
        before, behind = exchange.say.huge
        await exchange.write(before)
        piece = b"x" * 65_536
        for _ in range(size // len(piece)):
            await exchange.write(piece)
        await exchange.write(behind)
        await exchange.end()

    return answer


def bytewise(*payloads: object) -> Behaviour:
    """Every byte in a chunk of its own, so also within characters and line ends."""

    async def answer(exchange: Exchange) -> None:
        say, text = exchange.say, "Grüße, 世界 🌍"
        if payloads:
            said = sse(*payloads)
        elif _streams(exchange):
            said = say.opening() + say.word(text) + say.ending("stop", None) + say.done
        else:
            said = say.whole([text], [], "stop", _USAGE)
        exchange.start(headers=None if _streams(exchange) else _JSON)
        for byte in said.replace(b"\n", b"\r\n"):
            await exchange.write(bytes([byte]))
        await exchange.end()

    return answer


def cut_tool_call(*, end: bool = False, finish: str | None = None) -> Behaviour:
    """A call whose arguments break off; `end` closes the body in good order, and `finish` says
    that this was all."""

    async def answer(exchange: Exchange) -> None:
        await _begin(exchange, 0)
        if _streams(exchange):
            await exchange.write(exchange.say.half_call())
        if finish:
            await exchange.write(exchange.say.ending(finish, None) + exchange.say.done)
        await exchange.end() if end or finish else exchange.close()

    return answer


BY_NAME: dict[str, Behaviour] = {
    "rate-limited": rate_limited(Retry_After="1"),
    "quota": quota(),
    "burst": burst,
    "busy": busy,
    "slow-headers": slow_headers,
    "silent-headers": silent_headers,
    "pings-only": pings_only,
    "never-ending": never_ending,
    "stall": stall(),
    "cut": cut(),
    "reset": reset(),
    "no-finish": no_finish(),
    "no-done": no_done(),
    "garbage": garbage,
    "garbage-json": garbage_json(),
    "error-event": error_event(),
    "huge-line": huge_line(),
    "bytewise": bytewise(),
    "redirect": redirect("http://127.0.0.1:9/v1/chat/completions"),
    "cut-tool-call": cut_tool_call(),
}


def _said(request: dict[str, Any]) -> str:
    return last_user_text(request) if "messages" in request else str(request.get("input"))


def asked_for(request: dict[str, Any]) -> Behaviour | None:
    """`request` in OpenAI's terms."""
    model = re.fullmatch(r"fault-([a-z0-9-]+)", request.get("model", ""))
    said = model or re.search(r"\bfault:([a-z0-9-]+)", _said(request))
    if not said:
        return None
    name = said.group(1)
    code = re.fullmatch(r"\d{3}", name)
    unknown = {"error": {"message": f"there is no fault named {name}"}}
    return status(int(code.group())) if code else BY_NAME.get(name, status(400, unknown))
