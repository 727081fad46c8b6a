"""What a client's script is made of; it runs in the client's own environment, without the runtime.

A feature is a function that fails by raising. Each is told in one line of JSON on standard output,
so that one that fails stops no other.
"""

import asyncio
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any
from uuid import uuid4

BASE_URL = os.environ["OPENAI_BASE_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]

HERE = os.path.dirname(__file__)
LONGEST_S = 20
"""For one feature."""

DEMO = "demo-chat"
"""An agent that hands tools, formats and parameters on to the demo model."""
REACT = "react"
"""One that calls its own calculator."""
UPSTREAM = "upstream"
"""One whose provider fails, waits and goes on as the message says: see `tests/upstream`."""

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TIME = {
    "name": "get_time",
    "description": "The time in a city.",
    "parameters": WEATHER["parameters"],
}

_features: dict[str, Callable[[], Any]] = {}


def feature(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(function: Callable[[], Any]) -> Callable[[], Any]:
        assert name not in _features, name
        _features[name] = function
        return function

    return keep


def absent(reason: str, *names: str) -> None:
    """The client has no such features."""
    for name in names:
        if len(sys.argv) == 1:
            tell(name, "absent", reason)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"not done after {LONGEST_S} s")


def tell(name: str, outcome: str, note: str = "") -> None:
    sys.stdout.write(json.dumps({"feature": name, "outcome": outcome, "note": note}) + "\n")
    sys.stdout.flush()


def unique(text: str) -> str:
    """No other run of the suite, and no other client, says the same."""
    return f"{text} {uuid4().hex}"


def _where(error: Exception) -> str:
    """The scripts' own lines, then what was raised."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.dirname(frame.filename) == HERE and frame.filename != __file__
    ]
    lines = [f"line {frame.lineno}: {frame.line}\n" for frame in frames]
    return "".join(lines + traceback.format_exception_only(error))


def raised(kind: type[Exception], call: Callable[[], Any]) -> Any:  # noqa: ANN401 - of that kind
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    wanted = sys.argv[1:] or list(_features)
    signal.signal(signal.SIGALRM, _too_long)
    with asyncio.Runner() as loop:  # one for all: clients keep connections
        for name in wanted:
            signal.alarm(LONGEST_S)
            try:
                result = _features[name]()
                if inspect.iscoroutine(result):
                    loop.run(result)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - an outcome
                tell(name, "failed", _where(error))
            else:
                tell(name, "ok")
