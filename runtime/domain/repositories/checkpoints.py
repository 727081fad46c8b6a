"""What the steps of durable runs leave behind, so that finished ones are not made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId

Version = tuple[str, str]
"""A channel's name, and the version of its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a graph between two steps, less the values that are kept by themselves."""

    namespace: str
    """Of the graph: empty, or which task of which graph runs this one."""
    id: str
    parent_id: str | None
    step: int
    """Grows from each to the next one of a namespace, whatever the clocks of the processes say."""
    source: str
    """`input`, `loop`, `update`; `copy`, `fork` and `turn` of one that another run left."""
    created_at: datetime
    state: bytes


@dataclass(frozen=True, slots=True)
class ChannelValue:
    """One value of a state, kept once for all checkpoints between two changes of it."""

    namespace: str
    channel: str
    version: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWrite:
    """One thing that a task of the step behind a checkpoint did."""

    namespace: str
    checkpoint_id: str
    task_id: str
    task_path: str
    position: int
    """Negative for what is not part of the task's result, such as its interrupts."""
    channel: str
    data: bytes


@dataclass(slots=True)
class Progress:
    checkpoints: list[Checkpoint] = field(default_factory=list)
    values: list[ChannelValue] = field(default_factory=list)
    writes: list[TaskWrite] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    source: RunId
    checkpoint_id: str
    target: RunId
    scope: Scope
    """Of whom the new run is."""
    begins: Literal["fork", "turn"]
    """fork: go on from the checkpoint. turn: the run's input begins a new turn on its state."""
    versions: Sequence[Version]
    """The values of the checkpoint that are kept by themselves."""


class CheckpointStore(Protocol):
    """Checkpoints of all runs. Every call raises DatabaseUnavailable."""

    async def save(self, run: RunId, attempt: int, progress: Progress) -> None:
        """All in one transaction, over what is there. Raises AttemptLost unless the run is RUNNING
        with that attempt."""

    async def find(
        self, run: RunId, namespace: str = "", id: str | None = None
    ) -> Checkpoint | None:
        """The newest one without an id."""

    async def values(
        self, run: RunId, namespace: str, versions: Sequence[Version]
    ) -> Mapping[Version, bytes]:
        """Those of them that are kept by themselves."""

    async def writes(
        self, run: RunId, namespace: str, checkpoints: Sequence[str]
    ) -> Sequence[TaskWrite]:
        """In the order in which a step applies them."""

    async def history(
        self,
        run: RunId,
        namespace: str = "",
        *,
        scope: Scope | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Checkpoint]:
        """Newest first; `before` excludes the checkpoint with that id and what came after it.
        With a scope, only what it shows."""

    async def copy(self, source: RunId, target: RunId, scope: Scope) -> None:
        """Where the run's graphs are, with what their unfinished steps did, for another run of the
        scope's user."""

    async def fork(self, fork: Fork, writes: Sequence[TaskWrite] = ()) -> None:
        """One checkpoint for another run, and `writes` as if a task had done them behind it.

        Raises CheckpointNotFound."""

    async def delete(self, run: RunId) -> None: ...
