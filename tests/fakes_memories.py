"""In-memory stand-ins for the store of facts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runtime.domain.entities.memories import Fact, FoundFact, MemoryScope
from runtime.domain.errors import ConcurrentChange, MemoryExists, MemoryNotFound
from runtime.domain.repositories.memories import FactFilter, FactRepository
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.value_objects.ids import MemoryId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.words import asked_words, weights_of, worth_of
from runtime.infrastructure.repositories.base import storable
from runtime.infrastructure.repositories.memories import CURSORS, position

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction


class MemoryFactRepository(FactRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction
        self._scope = transaction.scope

    async def put(self, fact: Fact) -> Fact:
        ours = fact.project_id == self._scope.project_id
        if not ours or fact.owner_id != self._scope.user_id:
            raise ValueError(f"a memory of {fact.owner_id} in a unit of somebody else")
        _check(fact)
        tables = await self._transaction.writing()
        earlier = self._same(fact)
        if earlier is not None:
            fact = replace(
                fact,
                id=earlier.id,
                owner_id=earlier.owner_id,
                created_at=earlier.created_at,
                revision=earlier.revision + 1,
            )
        tables.memories[fact.id] = fact
        return fact

    async def get(self, id: MemoryId, at: datetime) -> Fact:
        for fact in self._matching(FactFilter(at=at)):
            if fact.id == id:
                return fact
        raise MemoryNotFound(id)

    async def find(self, identity: str, at: datetime) -> Fact | None:
        found = [each for each in self._matching(FactFilter(at=at)) if each.identity == identity]
        return found[0] if found else None

    async def save(self, fact: Fact) -> Fact:
        _check(fact)
        stored = await self.get(fact.id, fact.updated_at)
        if stored.revision != fact.revision:
            raise ConcurrentChange(f"Memory '{fact.id}'")
        other = self._same(fact)
        if other is not None and other.id != fact.id:
            raise MemoryExists
        saved = replace(fact, revision=fact.revision + 1)
        (await self._transaction.writing()).memories[fact.id] = saved
        return saved

    async def remove(self, id: MemoryId) -> None:
        fact = self._transaction.tables.memories.get(id)
        if fact is None or not self._visible(fact):
            raise MemoryNotFound(id)
        del (await self._transaction.writing()).memories[id]

    async def clear(self) -> int:
        tables = await self._transaction.writing()
        gone = [each.id for each in self._own() if each.scope is not MemoryScope.SHARED]
        for id in gone:
            del tables.memories[id]
        return len(gone)

    async def count(self, at: datetime) -> int:
        return sum(_alive(fact, at) for fact in self._own())

    async def page(self, where: FactFilter, *, limit: int, after: str | None) -> Page[Fact]:
        found = sorted(self._matching(where), key=position, reverse=True)
        if after is not None:
            start = CURSORS.read(after)
            found = [fact for fact in found if position(fact) < start]
        return CURSORS.page(found[: limit + 1], limit, position)

    async def search(self, query: str, where: FactFilter, *, limit: int) -> Sequence[FoundFact]:
        said = {fact.id: weights_of(fact.searched) for fact in self._seen()}
        worth = worth_of(
            {
                word: number
                for word in asked_words(query)
                if (number := sum(word in each for each in said.values()))
            }
        )
        found = [
            FoundFact(fact, sum(said[fact.id].get(word, 0) * worth[word] for word in worth))
            for fact in self._matching(where)
            if said[fact.id].keys() & worth.keys()
        ]
        found.sort(key=lambda each: (each.score, each.fact.updated_at, each.fact.id), reverse=True)
        return found[:limit]

    async def namespaces(self, where: FactFilter, *, limit: int) -> Sequence[str]:
        return sorted({fact.namespace for fact in self._matching(where)})[:limit]

    def _seen(self) -> list[Fact]:
        return [fact for fact in self._transaction.tables.memories.values() if self._visible(fact)]

    def _visible(self, fact: Fact) -> bool:
        ours = fact.project_id == self._scope.project_id
        mine = fact.owner_id == self._scope.user_id or fact.scope is MemoryScope.SHARED
        return ours and (mine or self._scope.administers)

    def _own(self) -> list[Fact]:
        return [fact for fact in self._seen() if fact.owner_id == self._scope.user_id]

    def _same(self, fact: Fact) -> Fact | None:
        for other in self._transaction.tables.memories.values():
            if (other.project_id, other.identity) == (fact.project_id, fact.identity):
                return other
        return None

    def _matching(self, where: FactFilter) -> list[Fact]:
        return [fact for fact in self._seen() if _matches(fact, where)]


class MemoryFactPruner(Pruner):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def prune(self, before: datetime) -> int:
        async with self._store.writer:
            tables = self._store.tables.copy()
            kept = {id: fact for id, fact in tables.memories.items() if _alive(fact, before)}
            gone = len(tables.memories) - len(kept)
            tables.memories = kept
            self._store.tables = tables
            return gone


def _matches(fact: Fact, where: FactFilter) -> bool:
    below = fact.namespace == where.namespace or fact.namespace.startswith(f"{where.namespace}.")
    return (
        _alive(fact, where.at)
        and where.owner_id in (None, fact.owner_id)
        and where.scope in (None, fact.scope)
        and (where.line_id is None or fact.line_id in (None, where.line_id))
        and (not where.namespace or below)
        and (where.tag is None or where.tag in fact.tags)
    )


def _alive(fact: Fact, at: datetime) -> bool:
    return fact.expires_at is None or fact.expires_at > at


def _check(fact: Fact) -> None:
    for text in (fact.text, fact.key or "", fact.namespace):
        storable(text)
