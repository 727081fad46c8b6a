"""An attempt of a durable run, as the engine sees it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.domain.events.runs import RunEvent
from runtime.domain.services.durability import ApprovalRequest, Durability
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True)
class Paused:
    """An attempt ends, and the run does not.

    suspended: it waits for a person. handed_over: another attempt goes on at once. later: the
    database is away. lost: another attempt has it, or it was ended.
    """

    why: Literal["suspended", "handed_over", "later", "lost"]
    requests: Sequence[ApprovalRequest] = ()


class AlreadyKept(Exception):
    """The answer to a commit was lost, and all of it is stored."""


class DurablePart(Protocol):
    id: RunId
    attempt: int
    durability: Durability
    before: Sequence[RunEvent]
    """The log as earlier attempts left it."""

    async def put(self, event: RunEvent) -> None:
        """It happened; waits while too much is not in the log yet. Raises AttemptLost."""

    def still(self) -> AbstractAsyncContextManager[None]:
        """While nothing is written to its log. Entered before a connection to the database is
        taken: what is being written waits for one, and there may be no other."""

    async def pause(self, pause: Paused) -> Paused:
        """Write that it stands still. Raises DatabaseUnavailable."""

    async def patiently(self, write: Callable[[], Awaitable[None]]) -> None:
        """Until it is written, or AlreadyKept. Raises what else it raises but for
        DatabaseUnavailable."""
