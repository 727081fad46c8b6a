"""Hints between processes that something of a run is new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.domain.value_objects.ids import RunId

SignalKind = Literal["log", "queue", "control", "any"]


@dataclass(frozen=True, slots=True)
class Signal:
    """`log`: its log has grown. `queue`: it may be begun. `control`: it was ended from outside.
    `any`: signals may have been missed, so whoever waits for one looks by itself; of no run."""

    kind: SignalKind
    run: RunId


ANY = Signal("any", RunId(""))


class RunSignals(Protocol):
    """What repositories write is signalled to other processes with their commit. A signal may be
    lost with its connection: whoever must not miss anything looks by itself from time to time."""

    prompt: bool
    """Whether other processes hear of it within milliseconds now; False: better look often."""

    def subscribe(self, heard: Callable[[Signal], None]) -> None:
        """Called in the event loop. Must not raise, and returns at once."""

    def tell(self, signals: Sequence[Signal]) -> None:
        """In this process, where they are heard at once, and only so: to be called by whoever
        wrote something, behind its commit."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
