import asyncio
from collections.abc import Sequence

from runtime.domain.events.runs import RunEvent, TextDelta

AHEAD = 512
"""Events a run may be ahead of its reader before it waits: a slow client never grows memory."""
CHARACTERS_AHEAD = 1_000_000
"""The same in characters of text, for a model that writes much at a time."""


class RunChannel:
    """From one run to one reader, who takes all that is there at once."""

    def __init__(self) -> None:
        self._events: list[RunEvent] = []
        self._characters = 0
        self._closed = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    async def put(self, event: RunEvent) -> None:
        while len(self._events) >= AHEAD or self._characters > CHARACTERS_AHEAD:
            self._writable.clear()
            await self._writable.wait()
        self._events.append(event)
        if type(event) is TextDelta:
            self._characters += len(event.text)
        self._readable.set()

    def close(self, last: RunEvent | None) -> None:
        """None: the run pauses, and its reader gets no end."""
        if last is not None:
            self._events.append(last)
        self._closed = True
        self._readable.set()

    async def read(self) -> Sequence[RunEvent]:
        """At least one event, or none at the end."""
        if not self._events:
            if self._closed:
                return ()
            self._readable.clear()
            await self._readable.wait()
        events, self._events, self._characters = self._events, [], 0
        self._writable.set()
        return events
