"""Answers that go on while their reader is away, for a while: numbered, bounded, one's own."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Protocol

from runtime.application.services.generation.generation import Generation
from runtime.application.services.generation.sources import Sourced
from runtime.domain.errors import EventsGone, RequestIdInUse, Saturated, StreamNotFound
from runtime.domain.value_objects.identity import Principal

logger = logging.getLogger(__name__)

MOST_EVENTS = 10_000
"""That one stream keeps; more text than that is bounded by its bytes."""

_SHARE = 4
"""One caller's streams take no more than this part of all places."""


class Encoder(Protocol):
    """The door's own form of events."""

    cancelled: bool
    """By its caller; then the runs' own ends say nothing new."""

    def encode(self, number: int, sourced: Sourced) -> bytes | None:
        """None: no reader is told of it, and it takes no number."""

    def end(self, last: int) -> bytes:
        """What follows the last event."""


class LiveStream:
    """One generation, read by a task of its own; at most one reader follows it at a time.

    Events are kept after they were read, for who comes back, and given up from the oldest on when
    there is no more room. What nobody has read is never given up: the run waits.
    """

    def __init__(self, generation: Generation, encoder: Encoder, max_bytes: int) -> None:
        self._generation = generation
        self._encoder = encoder
        self._max_bytes = max_bytes
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self.last = 0
        """The number of the newest event."""
        self._read = 0
        """The number of the newest event that some reader took."""
        self.ended = False
        self._closing = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._reader: object | None = None
        self._pump = asyncio.create_task(self._fill(), name="live-stream")

    @property
    def followed(self) -> bool:
        return self._reader is not None

    def cancel(self) -> None:
        """For its caller, who knows of it."""
        self._encoder.cancelled = True
        self._generation.cancel()

    async def aclose(self) -> None:
        self.cancel()
        self._closing = True
        self._room.set()
        await asyncio.wait({self._pump})

    async def follow(self, after: int) -> AsyncGenerator[Sequence[bytes]]:
        """What comes after that number, to the end. A later reader ends an earlier one.

        Raises EventsGone.
        """
        first = self.last - len(self._kept) + 1
        if not first - 1 <= after <= self.last:
            raise EventsGone(after, first - 1, self.last)
        self._reader = me = object()
        self._changed.set()
        try:
            while True:
                if after < self.last:
                    news = list(islice(reversed(self._kept), self.last - after))[::-1]
                    after = self.last
                    yield news
                    self._read = max(self._read, after)
                    self._room.set()
                elif self.ended:
                    yield [self._encoder.end(self.last)]
                    return
                else:
                    self._changed.clear()
                    await self._changed.wait()
                if self._reader is not me:
                    return
        finally:
            if self._reader is me:
                self._reader = None

    async def _fill(self) -> None:
        try:
            async with aclosing(self._generation.batches()) as batches:
                async for batch in batches:
                    for each in batch:
                        self._keep(each)
                    self._changed.set()
                    await self._until_room()
        # Its readers get the end of what there is; the log the cause.
        except Exception:
            logger.exception("a live stream broke")
        finally:
            await self._generation.aclose()
            self.ended = True
            self._changed.set()

    def _keep(self, sourced: Sourced) -> None:
        event = self._encoder.encode(self.last + 1, sourced)
        if event is not None:
            self.last += 1
            self._kept.append(event)
            self._bytes += len(event)

    async def _until_room(self) -> None:
        while self._full() and not self._closing:
            if self.last - len(self._kept) < self._read:
                self._bytes -= len(self._kept.popleft())
            else:
                self._room.clear()
                await self._room.wait()

    def _full(self) -> bool:
        return bool(self._kept) and (self._bytes > self._max_bytes or len(self._kept) > MOST_EVENTS)


class LiveStreams:
    """Found by the owner and the name of the request; nobody else's are."""

    def __init__(self, most: int, keep_s: float, max_bytes: int) -> None:
        """`keep_s`: how long a stream stays that nobody follows."""
        self._most = most
        self._most_of_one = max(most // _SHARE, 1)
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._streams: dict[tuple[str, str, str], LiveStream] = {}
        self._ends: dict[LiveStream, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def check(self, owner: Principal, request_id: str) -> None:
        """Whether one more may begin under this name. Raises RequestIdInUse, Saturated."""
        if _key(owner, request_id) in self._streams:
            raise RequestIdInUse(request_id)
        key = _key(owner, request_id)
        its = [each for each in self._streams if each[:2] == key[:2]]
        if len(its) >= self._most_of_one and not self._forget_one(its):
            raise Saturated("your streams that can be resumed", self._most_of_one)
        if len(self._streams) >= self._most and not self._forget_one(list(self._streams)):
            raise Saturated("streams that can be resumed", self._most)

    def open(
        self, owner: Principal, request_id: str, generation: Generation, encoder: Encoder
    ) -> LiveStream:
        """Raises what `check` raises."""
        self.check(owner, request_id)
        stream = LiveStream(generation, encoder, self._max_bytes)
        key = _key(owner, request_id)
        self._streams[key] = stream
        self._end_later(key, stream)
        return stream

    def get(self, owner: Principal, request_id: str) -> LiveStream:
        """Raises StreamNotFound."""
        try:
            return self._streams[_key(owner, request_id)]
        except KeyError:
            raise StreamNotFound(request_id) from None

    async def follow(
        self, owner: Principal, request_id: str, after: int
    ) -> AsyncGenerator[Sequence[bytes]]:
        """Raises StreamNotFound, EventsGone."""
        key, stream = _key(owner, request_id), self.get(owner, request_id)
        if timer := self._ends.pop(stream, None):
            timer.cancel()
        try:
            async with aclosing(stream.follow(after)) as events:
                async for each in events:
                    yield each
        finally:
            if not stream.followed and self._streams.get(key) is stream:
                self._end_later(key, stream)

    async def aclose(self) -> None:
        for timer in self._ends.values():
            timer.cancel()
        streams = list(self._streams.values())
        self._streams.clear()
        self._ends.clear()
        await asyncio.gather(*(stream.aclose() for stream in streams), *self._closing)

    def _end_later(self, key: tuple[str, str, str], stream: LiveStream) -> None:
        if timer := self._ends.pop(stream, None):
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._ends[stream] = loop.call_later(self._keep_s, self._end, key)

    def _end(self, key: tuple[str, str, str]) -> None:
        stream = self._streams.pop(key)
        if timer := self._ends.pop(stream, None):
            timer.cancel()
        task = asyncio.create_task(stream.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget_one(self, among: Sequence[tuple[str, str, str]]) -> bool:
        """The oldest that has ended and that nobody follows."""
        for key in among:
            stream = self._streams[key]
            if stream.ended and not stream.followed:
                self._end(key)
                return True
        return False


def _key(owner: Principal, request_id: str) -> tuple[str, str, str]:
    return owner.project_id, owner.user_id, request_id
