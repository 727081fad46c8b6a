"""Keyed streams of any route, with clients that leave when the test says so."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request

from runtime.infrastructure.container import Container
from runtime.infrastructure.lifespan import running
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.web.app import create_app
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.sse import EventStream

BEGUN = b'event: response.created\ndata: {"id":"resp_1"}\n\n'
ENDS = {
    "completed": b"event: response.completed\ndata: {}\n\n",
    "incomplete": b"event: response.incomplete\ndata: {}\n\n",
    "done": b"data: {}\n\ndata: [DONE]\n\n",
    "failed": b"event: response.failed\ndata: {}\n\n",
    "error": b'data: {"error": {"message": "data: [DONE]"}}\n\n',
    "nothing": b"",
}


@dataclass
class Client:
    """Speaks to the application as a server does."""

    app: FastAPI
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def post(self, **body: object) -> "Client":
        content = json.dumps(body).encode()
        headers = {"host": "127.0.0.1", "content-type": "application/json", "idempotency-key": "k"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/numbers",
            "raw_path": b"/v1/numbers",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        unread = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if unread:
                return unread.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
            self.sent.append(message)

        await self.app(scope, receive, send)
        return self

    @property
    def replayed(self) -> bool:
        return (b"idempotent-replayed", b"true") in self.sent[0]["headers"]

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    router = APIRouter(prefix="/v1/numbers", route_class=StrictRoute)

    @router.post("", response_model=None)
    async def stream(body: dict[str, Any], request: Request) -> EventStream:
        left = asyncio.Event()
        request.state.goes_on = body.get("goes_on", False)

        async def frames() -> AsyncGenerator[bytes]:
            yield BEGUN
            if end := body.get("end"):
                yield ENDS[end]
            else:
                await left.wait()

        return EventStream(frames(), left.set)

    container = Container(settings=Settings(data_dir=tmp_path / "var"))
    app = create_app(container)
    app.include_router(router)
    async with running(container):
        yield app


@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_is_kept_if_its_last_event_is_a_good_end(app: FastAPI, end: str) -> None:
    first = await Client(app).post(end=end)
    again = await Client(app).post(end=end)

    assert again.text == first.text == BEGUN + ENDS[end]
    assert again.replayed == (end in ("completed", "incomplete", "done"))


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_goes_on_without_its_client_is_not_begun_again(
    app: FastAPI, goes_on: bool
) -> None:
    first = Client(app)
    asked = asyncio.create_task(first.post(goes_on=goes_on))
    async with asyncio.timeout(5):
        while BEGUN not in first.text:  # noqa: ASYNC110 - the application announces nothing
            await asyncio.sleep(0.01)
    assert (await Client(app).post(goes_on=goes_on)).sent[0]["status"] == 409
    first.gone.set()
    await asked

    again = Client(app)
    asked = asyncio.create_task(again.post(goes_on=goes_on))
    await asyncio.sleep(0.2)
    again.gone.set()
    await asked
    assert again.text == BEGUN
    assert again.replayed == goes_on


async def test_a_request_that_is_cut_off_from_within_leaves_the_key_free(app: FastAPI) -> None:
    first = Client(app)
    asked = asyncio.create_task(first.post())
    async with asyncio.timeout(5):
        while BEGUN not in first.text:  # noqa: ASYNC110 - the application announces nothing
            await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    again = await Client(app).post(end="done")
    assert again.sent[0]["status"] == 200
