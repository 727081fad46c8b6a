import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starlette.types import Message

from runtime.infrastructure.web.sse import HEARTBEAT, EventStream


@dataclass
class Client:
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    ended: bool = False

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.heard.put_nowait(message["body"])
            self.ended = not message["more_body"]


async def frames(go: asyncio.Event) -> AsyncGenerator[bytes]:
    yield b"data: 1\n\n"
    await go.wait()
    yield b"data: 2\n\n"


async def test_a_silence_is_filled_with_comments() -> None:
    client, go = Client(), asyncio.Event()
    stream = EventStream(frames(go), go.set, heartbeat_s=0.01)
    answering = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))

    heard = [await client.heard.get() for _ in range(3)]
    go.set()
    await answering

    assert heard == [b"data: 1\n\n", HEARTBEAT, HEARTBEAT]
    assert client.ended
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_ends_its_frames_without_cancelling_them() -> None:
    client, left = Client(), asyncio.Event()
    stream = EventStream(frames(left), left.set)
    answering = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
    assert await client.heard.get() == b"data: 1\n\n"

    client.gone.set()
    await answering

    assert await client.heard.get() == b"data: 2\n\n"
    assert asyncio.all_tasks() == {asyncio.current_task()}
