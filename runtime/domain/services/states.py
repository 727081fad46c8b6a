"""What is in the states that graphs left, for people who look at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from runtime.domain.repositories.checkpoints import Checkpoint, TaskWrite, Version


@dataclass(frozen=True, slots=True)
class SeenInterrupt:
    id: str
    value: Any
    """JSON."""


@dataclass(frozen=True, slots=True)
class SeenTask:
    id: str
    name: str
    """Empty where it is not known."""
    finished: bool
    interrupts: Sequence[SeenInterrupt] = ()
    """Those that wait for an answer."""


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    id: str
    parent_id: str | None
    step: int
    source: str
    created_at: datetime
    next: Sequence[str]
    """The nodes that come now; none where the graph is done."""
    tasks: Sequence[SeenTask]
    """What of them was begun."""
    values: Mapping[str, Any]
    """JSON; long texts and lists are cut."""


class GraphStates(Protocol):
    """Raises StateUnreadable."""

    def stands_alone(self, checkpoint: Checkpoint) -> bool:
        """Whether it is the whole state, and not partly what changed since an earlier one."""

    def versions(self, checkpoint: Checkpoint) -> Sequence[Version]:
        """The values of the state that are kept by themselves."""

    def seen(
        self, checkpoint: Checkpoint, values: Mapping[Version, bytes], writes: Sequence[TaskWrite]
    ) -> SeenCheckpoint: ...

    def update(self, checkpoint: Checkpoint, values: Mapping[str, Any]) -> Sequence[TaskWrite]:
        """What changes the state as if a node had returned `values`. Raises InvalidValue for a key
        that the state does not have."""
