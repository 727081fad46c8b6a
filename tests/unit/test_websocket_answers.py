"""The requests of a WebSocket whose client is gone, which a real one can't time so well."""

import asyncio
import gc
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from starlette.websockets import WebSocketDisconnect

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from runtime.infrastructure.web.websocket.answers import Answers


async def _refuse(_: object) -> None:
    raise InvalidValue("There is no such mode.")


async def _gone(_: Sequence[bytes]) -> None:
    raise WebSocketDisconnect(1006)


async def test_a_refusal_that_nobody_hears_is_no_fault_of_the_runtime() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    services = SimpleNamespace(stream_chat=_refuse, live_streams=None, max_requests=1)
    idle = asyncio.Event()
    answers = Answers(cast(Any, services), _gone, idle.set)

    answers.ask(LOCAL_ADMIN, "r-1", cast(Any, None), resumable=False)
    await idle.wait()
    gc.collect()

    assert problems == []
    assert answers.idle
