"""Good answers, in the shapes of the wire that asks."""

import asyncio
import json
import re
from array import array
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from tests.upstream.dialects import OpenAIDialect, sse_event
from tests.upstream.dialects import chunk as chunk

if TYPE_CHECKING:
    from tests.upstream.wire import Behaviour, Exchange

USAGE: dict[str, Any] = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


event = sse_event
DONE = OpenAIDialect.done


def sse(*payloads: object, done: bool = True) -> bytes:
    return b"".join(map(event, payloads)) + (DONE if done else b"")


def raw(body: bytes, content_type: str = "text/event-stream") -> "Behaviour":
    """A 200 with exactly this body."""

    async def answer(exchange: "Exchange") -> None:
        await exchange.respond(200, body, {"Content-Type": content_type})

    return answer


def chunks(*payloads: object, done: bool = True) -> "Behaviour":
    return raw(sse(*payloads, done=done))


def says(text: str, *, finish: str = "stop") -> "Behaviour":
    """This text, streamed or whole as the request asks."""
    return _answering(re.findall(r"\S+\s*|\s+", text), [], finish)


def calls(
    name: str, arguments: dict[str, Any], *, text: str = "", id: str = "call_0"
) -> "Behaviour":
    """A call of one function, after some text."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": id, "type": "function", "function": function}
    return _answering([text] if text else [], [call], "tool_calls")


def _answering(words: Sequence[str], calls: Sequence[dict[str, Any]], finish: str) -> "Behaviour":
    usage = {key: USAGE[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}

    async def answer(exchange: "Exchange") -> None:
        await _answer(exchange, words, calls, finish, usage)

    return answer


async def echo(exchange: "Exchange") -> None:
    request = exchange.asked
    calls = tool_calls(request)
    words, finish = ([], "tool_calls") if calls else text_of(request)
    usage = {"prompt_tokens": _asked(request), "completion_tokens": len(words) or len(calls)}
    usage["total_tokens"] = sum(usage.values())
    await _answer(exchange, words, calls, finish, usage)


async def _answer(
    exchange: "Exchange",
    words: Sequence[str],
    calls: Sequence[dict[str, Any]],
    finish: str,
    usage: dict[str, int],
) -> None:
    if not exchange.asked.get("stream"):
        await exchange.respond(200, exchange.say.whole(words, calls, finish, usage))
        return
    delay_s = _option(exchange.asked, "delay") / 1000
    say = exchange.say
    exchange.start()
    await exchange.write(say.opening(calls=bool(calls)))
    for word in words:
        if delay_s:
            await asyncio.sleep(delay_s)
        await exchange.write(say.word(word))
    for index, call in enumerate(calls):
        for event in say.call(index, call):
            await exchange.write(event)
    counted = (exchange.asked.get("stream_options") or {}).get("include_usage")
    await exchange.write(say.ending(finish, usage if counted else None))
    await exchange.write(say.done)
    await exchange.end()


def last_user_text(request: dict[str, Any]) -> str:
    for message in reversed(request["messages"]):
        if message["role"] == "user":
            return _text(message["content"])
    return ""


def text_of(request: dict[str, Any]) -> tuple[list[str], str]:
    """The words of the answer, each with the blank behind it, and the finish reason."""
    last = request["messages"][-1]
    said = _text(last["content"])
    text = f"The tool said: {said}" if last["role"] == "tool" else f"You said: {said}"
    if count := _option(request, "words"):
        text = " ".join(f"word{number}" for number in range(count))
    stops = request.get("stop") or []
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    words = re.findall(r"\S+\s*", text[: min(ends, default=None)])
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit and len(words) > limit:
        return words[:limit], "length"
    return words, "stop"


def tool_calls(request: dict[str, Any]) -> list[dict[str, Any]]:
    if request["messages"][-1]["role"] != "user" or request.get("tool_choice") == "none":
        return []
    said = last_user_text(request)
    names = [tool["function"]["name"] for tool in request.get("tools", [])]
    found = re.search(r"\{.*\}", said, re.DOTALL)
    arguments = json.dumps(json.loads(found.group())) if found else "{}"
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for number, name in enumerate(name for name in names if name in said)
    ]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _asked(request: dict[str, Any]) -> int:
    return sum(len(_text(message["content"]).split()) for message in request["messages"])


def _option(request: dict[str, Any], name: str) -> int:
    found = re.search(rf"\b{name}:(\d+)", last_user_text(request))
    return int(found.group(1)) if found else 0


def vector_of(input: str | list[int], dimensions: int) -> list[float]:
    """Tells which input it is of by its first number."""
    return [float(len(input)), *([0.25] * (dimensions - 1))]


async def embed(exchange: "Exchange") -> None:
    request = exchange.json
    given = request["input"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    vectors = [vector_of(each, request.get("dimensions", 8)) for each in inputs]
    if request.get("encoding_format") == "base64":
        sent: list[Any] = [b64encode(array("f", each).tobytes()).decode() for each in vectors]
    else:
        sent = vectors
    data = [
        {"object": "embedding", "index": index, "embedding": each}
        for index, each in enumerate(sent)
    ]
    usage = {"prompt_tokens": 7 * len(inputs), "total_tokens": 7 * len(inputs)}
    answer = {"object": "list", "data": data, "model": request["model"], "usage": usage}
    await exchange.respond(200, orjson.dumps(answer))
