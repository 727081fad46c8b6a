from collections.abc import Sequence
from typing import Protocol

from runtime.domain.entities.responses import Response
from runtime.domain.events.runs import RunEvent
from runtime.domain.value_objects.ids import ResponseId, RunId


class ResponseRepository(Protocol):
    """Responses of the scope's project; without `administers`, one's own."""

    async def add(self, response: Response) -> None: ...

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
        """In order, from `after + 1`. An error comes back as one of its kind with its words."""

    async def last(self, run: RunId) -> int:
        """0 when there is nothing."""

    async def remove(self, run: RunId) -> None: ...
