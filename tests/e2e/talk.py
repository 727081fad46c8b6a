"""A WebSocket client that speaks the runtime's frames."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]
PATH = "/api/streaming/ws/"


@dataclass
class Talk:
    socket: ClientConnection

    async def say(self, message_type: str, **data: object) -> None:
        await self.socket.send(json.dumps({"message_type": message_type, "data": data}))

    async def ask(self, text: str, request_id: str, **data: object) -> None:
        messages = [{"role": "user", "content": text}]
        await self.say("chat_request", messages=messages, request_id=request_id, **data)

    async def hear(self) -> Frame:
        async with asyncio.timeout(20):
            frame: Frame = json.loads(await self.socket.recv())
        return frame

    async def until(self, condition: Callable[[Frame], bool]) -> list[Frame]:
        """Everything up to the first frame that fits."""
        heard = [await self.hear()]
        while not condition(heard[-1]):
            heard.append(await self.hear())
        return heard

    async def answer(self, request_id: str) -> list[Frame]:
        """The events of a request, to its end; other requests' frames are passed over."""
        heard = await self.until(ends(request_id))
        return [
            frame["data"]
            for frame in heard
            if frame["message_type"] == "stream_event" and frame["data"]["request_id"] == request_id
        ]

    async def closed(self) -> tuple[int, list[Frame]]:
        """The close code, and what came before it."""
        heard = []
        async with asyncio.timeout(20):
            try:
                while True:
                    heard.append(json.loads(await self.socket.recv()))
            except ConnectionClosed:
                pass
        return self.socket.close_code or 0, heard


def ends(request_id: str) -> Callable[[Frame], bool]:
    def fits(frame: Frame) -> bool:
        over = frame["message_type"] in ("stream_end", "error")
        return over and frame["data"].get("request_id") == request_id

    return fits


def text_of(events: list[Frame]) -> str:
    deltas = [each for each in events if each["event_type"] == "text-delta"]
    return "".join(each["event_data"]["content"] for each in deltas)


def of_type(frames: list[Frame], message_type: str) -> list[Frame]:
    return [frame["data"] for frame in frames if frame["message_type"] == message_type]


@asynccontextmanager
async def talking(
    url: str,
    who: str = "ann",
    headers: Mapping[str, str] | None = None,
    *,
    greeted: bool = True,
    **options: Any,  # noqa: ANN401 - as in `connect`
) -> AsyncIterator[Talk]:
    options.setdefault("ping_interval", None)
    address = url.replace("http://", "ws://") + PATH + who
    async with connect(
        address, additional_headers=headers, compression=None, proxy=None, **options
    ) as socket:
        talk = Talk(socket)
        if greeted:
            assert (await talk.hear())["message_type"] == "connected"
        yield talk
