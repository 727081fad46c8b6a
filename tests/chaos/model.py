"""The provider behind the agents: it does what the message says, and never twice in one way.

A message is an `Errand` in JSON. The model makes its calls, one round after the other, and then
tells what they gave. Asked again the same, it finds other words and other ids for its calls, as
models do: only the calls themselves stay.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tests.upstream import Exchange
from tests.upstream.answers import last_user_text

COUNTER = itertools.count()


@dataclass(frozen=True)
class Errand:
    """What one run is to do."""

    id: str
    calls: tuple[tuple[str, str], ...]
    """Tools with the tokens that they are called with."""
    at_once: int = 1
    """How many of the calls make a round."""
    words: int = 6
    delay_ms: int = 10
    """Before each word."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @property
    def tokens(self) -> list[str]:
        return [token for _, token in self.calls]


def _read(text: str) -> Errand:
    said = json.loads(text)
    return Errand(**{**said, "calls": tuple(map(tuple, said["calls"]))})


async def errands(exchange: Exchange) -> None:
    """A behaviour for every request."""
    request = exchange.asked
    errand = _read(last_user_text(request))
    results = _results(request["messages"])
    calls = errand.calls[len(results) : len(results) + errand.at_once]
    offered = bool(request.get("tools"))
    say = exchange.say
    exchange.start()
    await exchange.write(say.opening(calls=offered and bool(calls)))
    for word in _words(errand, results, whole=not (offered and calls)):
        await asyncio.sleep(errand.delay_ms / 1_000)
        await exchange.write(say.word(word))
    if offered:
        for index, (name, token) in enumerate(calls):
            for event in say.call(index, _call(name, token)):
                await exchange.write(event)
    await exchange.write(say.ending("tool_calls" if offered and calls else "stop", _usage()))
    await exchange.write(say.done)
    await exchange.end()


def _results(messages: list[dict[str, Any]]) -> list[str]:
    """Of the tools, since the last message of the user."""
    since = itertools.takewhile(lambda each: each["role"] != "user", reversed(messages))
    return [str(each["content"]) for each in since if each["role"] == "tool"][::-1]


def _words(errand: Errand, results: list[str], *, whole: bool) -> Iterable[str]:
    yield f"[{next(COUNTER)}] "
    for number in range(errand.words if whole else 2):
        yield f"word{number} "
    if whole:
        yield from (f"{result} " for result in results)
        yield f"done-{errand.id}"


def _call(name: str, token: str) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps({"token": token})}
    return {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
