from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.sessions import Session
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ItemId, LineId, SessionId
from runtime.domain.value_objects.items import Item
from runtime.domain.value_objects.memory import Placed


@dataclass(frozen=True, slots=True)
class SessionName:
    """A caller's own name of a session with an agent."""

    line_id: LineId
    name: str


SessionKey = SessionId | SessionName


@dataclass(frozen=True, slots=True)
class Addition:
    """What is written to a session at once."""

    items: Sequence[Item]
    cut: int | None = None
    """Everything from this position on is removed first."""
    summary: str | None = None
    """None: as it is."""
    summarised: int = 0


class SessionRepository(Protocol):
    """A session is written by who holds it, everything else may happen at any time.

    A hold ends by itself after a while, by the store's clock, unless it is renewed.
    """

    async def add(self, session: Session, holder: str | None = None, for_s: float = 0) -> bool:
        """Whether it is stored, held by `holder` if there is one; its name may be taken."""

    async def find(self, key: SessionKey) -> Session | None: ...

    async def get(self, id: SessionId) -> Session:
        """Raises ConversationNotFound."""

    async def hold(self, key: SessionKey, holder: str, for_s: float) -> Session | None:
        """As it is now, to be written by `holder` only; None when there is none to be had:
        somebody else holds it, or it does not exist."""

    async def write(self, session: Session, holder: str, addition: Addition, at: datetime) -> None:
        """Ends the hold. Raises ConcurrentChange when it has ended before, and somebody else's
        begun: nothing is written then."""

    async def release(self, id: SessionId, holder: str) -> None:
        """End the hold without a write, if it has not ended yet."""

    async def set_metadata(self, id: SessionId, metadata: Mapping[str, str], at: datetime) -> None:
        """Raises ConversationNotFound."""

    async def remove(self, id: SessionId) -> None:
        """With its items. Raises ConversationNotFound."""

    async def latest(self, id: SessionId, limit: int | None, *, since: int = 0) -> Sequence[Placed]:
        """The last `limit` items that a model reads, from position `since` on, oldest first."""

    async def item(self, id: SessionId, item: ItemId) -> Placed:
        """Raises ItemNotFound."""

    async def items(
        self, id: SessionId, *, limit: int, after: ItemId | None, newest_first: bool
    ) -> Sequence[Placed]:
        """Raises ItemNotFound when `after` is not in the session."""

    async def remove_item(self, session: Session, holder: str, item: ItemId, at: datetime) -> None:
        """Ends the hold. Raises ItemNotFound, and ConcurrentChange as `write` does."""


@dataclass(frozen=True, slots=True)
class TakeSession:
    """See SessionRepository.hold."""

    scope: Scope
    key: SessionKey
    holder: str
    for_s: float
    begin: Session | None = None
    """What is stored, held, when there is none by that name."""


@dataclass(frozen=True, slots=True)
class WriteTurn:
    """See SessionRepository.write."""

    scope: Scope
    session: Session
    holder: str
    addition: Addition
    at: datetime


Operation = TakeSession | WriteTurn


class SessionLog(Protocol):
    """The two operations that every turn takes, many in one transaction."""

    async def apply(self, operations: Sequence[Operation]) -> Sequence[object]:
        """For each: the Session that is held now, None when somebody else holds it, or
        ConversationNotFound, as a value; whether the turn is written. All are durable."""


class SessionHolds(Protocol):
    """What is done to sessions of every project and owner."""

    async def renew(self, holders: Mapping[SessionId, str], for_s: float) -> None:
        """Those that were lost meanwhile stay lost."""

    async def prune(self, before: datetime) -> int:
        """Remove the sessions that nothing was written to since `before`, and that nobody holds;
        how many they were."""
