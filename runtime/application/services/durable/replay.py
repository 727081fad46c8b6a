"""What a further attempt emits, less what those before it have said already.

A step that was cut off is made again, and a model that is asked again may answer the same: as long
as it does, nothing is said twice. Where it answers otherwise, what had been said is discarded.
"""

from collections import deque
from collections.abc import Sequence
from typing import TypeGuard

from runtime.domain.events.runs import (
    OUTPUT,
    OutputDiscarded,
    ReasoningDelta,
    RunCompleted,
    RunEvent,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.services.durability import Durability
from runtime.domain.services.executor import Emit
from runtime.domain.value_objects.run_logs import counting


class Replay:
    def __init__(self, before: Sequence[RunEvent], durability: Durability, emit: Emit) -> None:
        self._before = before
        self._durability = durability
        self._emit = emit
        self._started = {e.step_id: n for n, e in enumerate(before, 1) if type(e) is StepStarted}
        self._finished = {e.step_id for e in before if type(e) is StepFinished}
        self._called = {e.call_id for e in before if type(e) is ToolCalled}
        self._returned = {e.call_id for e in before if type(e) is ToolReturned}
        self._decided = False
        self._after = 0
        """The number behind which output is said again."""
        self._expected: deque[RunEvent] = deque()
        self._matched: list[RunEvent] = []

    async def emit(self, event: RunEvent) -> None:
        self._decide(event)
        if isinstance(event, OUTPUT):
            await self._say(event)
        elif not self._known(event):
            if self._ends_what_is_expected(event):
                await self._discard()
            await self._emit(event)

    async def close(self) -> None:
        """The attempt says nothing more."""
        self._decide(RunCompleted("stop"))
        if self._expected:
            await self._discard()

    def _decide(self, event: RunEvent) -> None:
        """From where on output is said again: known with the first thing that happens."""
        if self._decided:
            return
        if self._durability.restarted:
            self._after = 0
        elif isinstance(event, StepStarted):
            self._after = self._started.get(event.step_id, len(self._before))
        else:
            self._after = len(self._before)
        self._decided = True
        said = counting(self._before)
        self._expected.extend(e for n, e in said if n > self._after and isinstance(e, OUTPUT))

    def _known(self, event: RunEvent) -> bool:
        match event:
            case StepStarted():
                return event.step_id in self._started
            case StepFinished():
                return event.step_id in self._finished
            case ToolCalled():
                return event.call_id in self._called
            case ToolReturned():
                return event.call_id in self._returned
            case _:
                return False

    def _ends_what_is_expected(self, event: RunEvent) -> bool:
        if not self._expected:
            return False
        if isinstance(event, StepFinished):
            return not self._durability.restarted
        return isinstance(event, ToolCalled | RunCompleted)

    async def _say(self, event: RunEvent) -> None:
        while self._expected:
            expected = self._expected[0]
            if _is_plain(event) and _is_plain(expected) and type(event) is type(expected):
                if event.text.startswith(expected.text):
                    self._matched.append(self._expected.popleft())
                    event = type(event)(event.text[len(expected.text) :])
                    if not event.text:
                        return
                    continue
                if expected.text.startswith(event.text):
                    self._expected[0] = type(event)(expected.text[len(event.text) :])
                    self._matched.append(event)
                    return
            elif event == expected:
                self._matched.append(self._expected.popleft())
                return
            await self._discard()
        await self._emit(event)

    async def _discard(self) -> None:
        again, self._matched = self._matched, []
        self._expected.clear()
        await self._emit(OutputDiscarded(self._after))
        for event in again:
            await self._emit(event)


def _is_plain(event: RunEvent) -> TypeGuard[TextDelta | ReasoningDelta]:
    """Text that may be cut anywhere."""
    if isinstance(event, TextDelta):
        return event.logprobs is None
    return isinstance(event, ReasoningDelta)
