"""Streams read in tasks of their own, so that waiting for them can be given up."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from runtime.application.services.generation.sources import Batch, Stream

Arrived = tuple[int, Batch]


class Feed:
    """Of each stream one batch lies here and one more is in hand: who reads slowly slows them all
    down.

    A task a stream, none a batch, and each wakes once for a batch that is taken as it comes.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._arrived: list[Arrived] = []
        self._readable = asyncio.Event()
        self._room = [asyncio.Event() for _ in streams]
        self._going = len(streams)
        self._broken: Exception | None = None
        self._tasks = [
            asyncio.create_task(self._pump(index, stream)) for index, stream in enumerate(streams)
        ]

    @property
    def ended(self) -> bool:
        return not (self._going or self._arrived or self._broken)

    async def take(self, within_s: float | None = None) -> Sequence[Arrived]:
        """What has arrived, with the number of its stream; nothing at the end, or when nothing
        comes in time. Raises what reading a stream raised, after what came before."""
        if not self._arrived and self._going and not self._broken:
            self._readable.clear()
            if not await self._comes(within_s):
                return ()
        if not self._arrived and self._broken:
            raise self._broken
        arrived, self._arrived = self._arrived, []
        for index, _ in arrived:
            self._room[index].set()
        return arrived

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _comes(self, within_s: float | None) -> bool:
        if within_s is None:
            return await self._readable.wait()
        try:
            async with asyncio.timeout(within_s):
                return await self._readable.wait()
        except TimeoutError:
            return False

    async def _pump(self, index: int, stream: Stream) -> None:
        room = self._room[index]
        room.set()
        try:
            async with aclosing(stream):
                async for batch in stream:
                    await room.wait()
                    room.clear()
                    self._arrived.append((index, batch))
                    self._readable.set()
        except Exception as error:
            self._broken = error
            raise
        finally:
            self._going -= 1
            self._readable.set()
