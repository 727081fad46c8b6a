"""Hints between processes that something of a run is new."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.domain.value_objects.ids import RunId

SignalKind = Literal["log", "queue", "control"]


@dataclass(frozen=True, slots=True)
class Signal:
    """`log`: its log has grown. `queue`: it may be begun. `control`: it was ended from outside."""

    kind: SignalKind
    run: RunId


class RunSignals(Protocol):
    """What repositories write is signalled with their commit. A signal may be lost with its
    connection: whoever must not miss anything looks by itself from time to time."""

    prompt: bool
    """Whether other processes hear of it within milliseconds now; False: better look often."""

    def subscribe(self, heard: Callable[[Signal], None]) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
