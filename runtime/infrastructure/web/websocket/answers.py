"""The requests of one connection: each answered in a task of its own."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial

from starlette.websockets import WebSocketDisconnect

from runtime.application.commands.streaming import StreamChat
from runtime.application.services.generation.generation import Generation
from runtime.application.services.live_streams import LiveStream
from runtime.domain.errors import DomainError, RateLimited, RequestIdInUse, StreamNotFound
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.websocket.frames import StreamFrames, error_frame, frame
from runtime.infrastructure.web.websocket.services import Services

logger = logging.getLogger(__name__)

RUNS_REMEMBERED = 256
"""For feedback that names its request."""

Send = Callable[[Sequence[bytes]], Awaitable[None]]
Answering = Callable[[], Coroutine[None, None, None]]


@dataclass(eq=False)
class _Request:
    id: str
    task: "asyncio.Task[None]" = field(init=False)
    generation: Generation | None = None
    frames: StreamFrames | None = None
    stream: LiveStream | None = None
    begun: bool = False
    cancelled: bool = False

    def cancel(self) -> None:
        """The client does not want it any more."""
        if self.cancelled:
            return
        self.cancelled = True
        if self.stream:
            self.stream.cancel()
        elif self.generation and self.frames:
            self.frames.cancelled = True
            self.generation.cancel()
        # A task that is cancelled before it begins could tell nobody.
        elif self.begun:
            self.task.cancel()

    def leave(self) -> None:
        """The client is gone: what can be resumed goes on."""
        if self.generation and not self.stream:
            self.generation.cancel()
        else:
            self.task.cancel()


class Answers:
    def __init__(self, services: Services, send: Send, on_idle: Callable[[], None]) -> None:
        self._stream_chat = services.stream_chat
        self._live = services.live_streams
        self._most = services.max_requests
        self._send = send
        self._on_idle = on_idle
        self._requests: dict[str, _Request] = {}
        self._runs: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        """Requests that go on."""
        return len(self._requests)

    @property
    def idle(self) -> bool:
        return not self._requests

    def ask(
        self, caller: Principal, request_id: str, command: StreamChat, *, resumable: bool
    ) -> None:
        """`caller`: the connection's, who may ask in another name and is the one to resume it.

        Raises RequestIdInUse, RateLimited, Saturated.
        """
        if resumable:
            self._live.check(caller, request_id)
        request = self._new(request_id)
        self._runs.pop(request_id, None)
        answer = self._resumable if resumable else self._at_once
        self._begin(request, partial(self._generate, request, caller, command, answer))

    def resume(self, caller: Principal, request_id: str, last_event: int) -> None:
        """Raises StreamNotFound, RequestIdInUse, RateLimited."""
        stream = self._live.get(caller, request_id)
        request = self._new(request_id)
        request.stream = stream
        self._begin(request, partial(self._follow, request, caller, last_event))

    def cancel(self, request_id: str) -> None:
        """Raises StreamNotFound."""
        request = self._requests.get(request_id)
        if request is None:
            raise StreamNotFound(request_id)
        request.cancel()

    def run_of(self, request_id: str) -> str:
        """The first run of a request that was made here. Raises StreamNotFound."""
        try:
            return self._runs[request_id]
        except KeyError:
            raise StreamNotFound(request_id) from None

    def cancel_all(self) -> None:
        for request in self._requests.values():
            request.cancel()

    async def leave(self) -> None:
        requests = list(self._requests.values())
        for request in requests:
            request.leave()
        await asyncio.gather(*(request.task for request in requests), return_exceptions=True)

    def _new(self, id: str) -> _Request:
        if id in self._requests:
            raise RequestIdInUse(id)
        if len(self._requests) >= self._most:
            raise RateLimited(
                f"{self._most} requests go on in this connection, which is the most.",
                retry_after_s=1,
            )
        return _Request(id)

    def _begin(self, request: _Request, answering: Answering) -> None:
        self._requests[request.id] = request
        request.task = asyncio.create_task(self._run(request, answering), name=request.id)
        request.task.add_done_callback(partial(self._ended, request))

    def _ended(self, request: _Request, _: "asyncio.Task[None]") -> None:
        del self._requests[request.id]
        if not self._requests:
            self._on_idle()

    async def _run(self, request: _Request, answering: Answering) -> None:
        with suppress(WebSocketDisconnect):
            await self._told(request, answering)

    async def _told(self, request: _Request, answering: Answering) -> None:
        """What goes wrong with it is told to the client, and ends only this request.

        Raises WebSocketDisconnect.
        """
        request.begun = True
        try:
            if request.cancelled:
                raise asyncio.CancelledError
            await answering()
        except WebSocketDisconnect:
            raise
        except asyncio.CancelledError:
            if not request.cancelled:
                raise
            told = {"request_id": request.id, "status": "cancelled", "last_event": 0}
            await self._send([frame("stream_end", told)])
        except DomainError as error:
            await self._send([error_frame(error, request.id)])
        except Exception as error:
            logger.exception("request %s broke", request.id)
            await self._send([error_frame(error, request.id)])

    async def _generate(
        self,
        request: _Request,
        caller: Principal,
        command: StreamChat,
        answer: Callable[[_Request, Generation, StreamFrames, Principal], Awaitable[None]],
    ) -> None:
        generation = await self._stream_chat(command)
        frames = StreamFrames(request.id, generation, partial(self._ran, request.id))
        request.generation, request.frames = generation, frames
        await answer(request, generation, frames, caller)

    async def _at_once(
        self, request: _Request, generation: Generation, frames: StreamFrames, _: Principal
    ) -> None:
        number = 0
        try:
            await self._send([_accepted(request.id, resumable=False)])
            async with aclosing(generation.batches()) as batches:
                async for batch in batches:
                    out = []
                    for each in batch:
                        if event := frames.encode(number + 1, each):
                            number += 1
                            out.append(event)
                    if out:
                        await self._send(out)
            await self._send([frames.end(number)])
        finally:
            await generation.aclose()

    async def _resumable(
        self, request: _Request, generation: Generation, frames: StreamFrames, caller: Principal
    ) -> None:
        try:
            request.stream = self._live.open(caller, request.id, generation, frames)
        except DomainError:
            await generation.aclose()
            raise
        await self._send([_accepted(request.id, resumable=True)])
        await self._follow(request, caller, 0)

    async def _follow(self, request: _Request, caller: Principal, last_event: int) -> None:
        async with aclosing(self._live.follow(caller, request.id, last_event)) as events:
            async for some in events:
                await self._send(some)

    def _ran(self, request_id: str, run_id: str) -> None:
        self._runs.setdefault(request_id, run_id)
        if len(self._runs) > RUNS_REMEMBERED:
            self._runs.popitem(last=False)


def _accepted(request_id: str, *, resumable: bool) -> bytes:
    return frame("request_accepted", {"request_id": request_id, "resumable": resumable})
