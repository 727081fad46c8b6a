"""One strict reading of JSON for every route; the stock one takes NaN and answers 500 to others."""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

MAX_DEPTH = 100


class StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as in Starlette
        """Raises JSONDecodeError: also for NaN, 1e400, lone surrogates, NUL and deep nesting."""
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def parse(body: bytes) -> Any:  # noqa: ANN401 - it is JSON
    value = orjson.loads(body)
    # Both are rare, and walking a long conversation is not free: look only where there is cause.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH or b"\\u0000" in body:
        _check(value, MAX_DEPTH)
    return value


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise JSONDecodeError(f"nested deeper than {MAX_DEPTH} levels", "", 0)
    if isinstance(value, str):
        if "\x00" in value:
            raise JSONDecodeError("a string holds the character NUL", "", 0)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check(key, depth)
            _check(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth - 1)
