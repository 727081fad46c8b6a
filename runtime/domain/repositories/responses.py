from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.responses import Response
from runtime.domain.events.runs import RunEvent
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ResponseId, RunId


class ResponseRepository(Protocol):
    """Responses of the scope's project; without `administers`, one's own."""

    async def add(self, response: Response, lease_until: datetime | None = None) -> None:
        """One that goes on is its process's until then, if that does not hold the lease."""

    async def get(self, id: ResponseId) -> Response:
        """Raises ResponseNotFound."""

    async def chain(self, id: ResponseId) -> Sequence[Response]:
        """The response and those it follows on, oldest first.

        Raises PreviousResponseNotFound where one of them is not there.
        """

    async def finish(self, response: Response) -> bool:
        """Write how it ended; False when that is decided, or it is gone."""

    async def remove(self, id: ResponseId) -> None:
        """Raises ResponseNotFound."""


class RunEventRepository(Protocol):
    """What happened in runs that outlive their reader's connection: numbered from 1, gap-free."""

    async def append(self, run: RunId, after: int, events: Sequence[RunEvent]) -> bool:
        """Write them as `after + 1` and on; False, and nothing is written, when somebody else
        has written such a number: whoever comes second has lost the run."""

    async def read(self, run: RunId, *, after: int, limit: int) -> Sequence[RunEvent]:
        """In order, from `after + 1`. An error comes back as an ExecutionFailed of its words."""

    async def last(self, run: RunId) -> int:
        """0 when there is nothing."""

    async def remove(self, run: RunId) -> None: ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What `RunEventRepository.append` takes, in the owner's scope."""

    ends: Response | None = field(default=None, kw_only=True)
    """As `ResponseRepository.finish` takes it: both are written or neither."""

    scope: Scope
    run: RunId
    after: int
    events: Sequence[RunEvent]


class RunEventLog(Protocol):
    """The same log for many runs at once, of every project."""

    async def append(self, entries: Sequence[LogEntry]) -> Sequence[bool]:
        """In one transaction; for each run whether it was written. Raises DatabaseUnavailable."""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A response whose process has not been heard of for too long."""

    id: ResponseId
    scope: Scope


class ResponseLeases(Protocol):
    """Which process sees to which response, of every project. One statement for each call.

    Every call raises DatabaseUnavailable.
    """

    async def going_on(self, ids: Collection[ResponseId]) -> set[ResponseId]:
        """Those of them that nobody has ended."""

    async def hold(self, ids: Collection[ResponseId], until: datetime) -> None: ...

    async def lapsed(self, at: datetime, *, limit: int) -> Sequence[Lapsed]: ...

    async def prune(self, before: datetime) -> int:
        """Remove ended responses that are older, with their events; how many went."""
