from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runtime.domain.entities.memories import Fact, FoundFact, MemoryScope
from runtime.domain.value_objects.ids import LineId, MemoryId, UserId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class FactFilter:
    at: datetime
    """What has expired by then is not there."""
    owner_id: UserId | None = None
    scope: MemoryScope | None = None
    line_id: LineId | None = None
    """What this agent knows: its own and what every agent does."""
    namespace: str = ""
    """And what is below it."""
    tag: str | None = None


class FactRepository(Protocol):
    """The scope's own facts and what its project shares; with `administers`, everybody's."""

    async def put(self, fact: Fact) -> Fact:
        """As it is stored: in place of the one with the same identity, whose id and date it
        keeps. Raises InvalidValue for text that can't be stored."""

    async def get(self, id: MemoryId, at: datetime) -> Fact:
        """Raises MemoryNotFound."""

    async def find(self, identity: str, at: datetime) -> Fact | None: ...

    async def save(self, fact: Fact) -> Fact:
        """In place of its revision; as it is stored. Raises MemoryNotFound, ConcurrentChange,
        MemoryExists when another one has its identity."""

    async def remove(self, id: MemoryId) -> None:
        """Raises MemoryNotFound."""

    async def clear(self) -> int:
        """Remove one's own but for the shared ones; how many they were."""

    async def count(self, at: datetime) -> int:
        """One's own, in every scope."""

    async def page(self, where: FactFilter, *, limit: int, after: str | None) -> Page[Fact]: ...

    async def search(self, query: str, where: FactFilter, *, limit: int) -> Sequence[FoundFact]:
        """By words, what fits best first."""

    async def namespaces(self, where: FactFilter, *, limit: int) -> Sequence[str]:
        """Those in use, in code point order."""
