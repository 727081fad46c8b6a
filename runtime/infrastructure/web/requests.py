"""What every route with a body has: one strict reading of JSON, and requests that can be repeated.

The stock reading takes NaN and answers 500 to others.
"""

import re
from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from runtime.infrastructure.web import idempotency

MAX_DEPTH = 100
MAX_VALUES = 100_000
"""A megabyte of empty lists would hold the loop for a second; no conversation has so many."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


class StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as in Starlette
        """Raises JSONDecodeError: also for NaN, 1e400, lone surrogates, NUL, deep nesting
        and a great many values."""
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class StrictRoute(APIRoute):
    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        **options: Any,  # noqa: ANN401 - as in FastAPI
    ) -> None:
        if "POST" in options["methods"]:
            options = idempotency.documented(path, options)
        super().__init__(path, endpoint, **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if idempotency.is_keyed(scope):
            await idempotency.once(super().handle, scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def parse(body: bytes) -> Any:  # noqa: ANN401 - it is JSON
    # No look is free where a conversation is long: each is taken only where there is cause.
    if len(body) > MAX_VALUES and _values(body) > MAX_VALUES:
        raise JSONDecodeError(f"there are more than {MAX_VALUES} values", "", 0)
    value = orjson.loads(body)
    if isinstance(value, dict | list):
        _check_depth(value)
    if b"\\u0000" in body:
        _check_text(value)
    return value


def _values(body: bytes) -> int:
    """At most, and exactly where it matters: a text may hold any number of commas."""
    most = _separators(body)
    return most if most <= MAX_VALUES else _separators(_STRING.sub(b"", body))


def _separators(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)  # type: ignore[attr-defined]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise JSONDecodeError(f"nested deeper than {MAX_DEPTH} levels", "", 0)


def _check_text(value: object) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise JSONDecodeError("a string holds the character NUL", "", 0)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_text(key)
            _check_text(each)
    elif isinstance(value, list):
        for each in value:
            _check_text(each)
