from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.errors import CompletionNotFound, InvalidValue
from runtime.domain.repositories.completions import CompletionFilter, CompletionRepository
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.value_objects.chat import Message
from runtime.domain.value_objects.ids import CompletionId
from runtime.domain.value_objects.pages import Page

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction

Kept = tuple[ChatCompletion, Sequence[Message]]


class MemoryCompletionRepository(CompletionRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add(self, completion: ChatCompletion, asked: Sequence[Message]) -> None:
        self._transaction.own(completion)
        tables = await self._transaction.writing()
        if completion.id in tables.completions:
            raise ValueError(f"completion {completion.id} was written before")
        tables.completions[completion.id] = (completion, list(asked))

    async def get(self, id: CompletionId) -> ChatCompletion:
        return self._one(id)[0]

    async def asked(self, id: CompletionId) -> Sequence[Message]:
        return self._one(id)[1]

    async def page(
        self,
        where: CompletionFilter,
        *,
        limit: int,
        after: CompletionId | None,
        newest_first: bool,
    ) -> Page[ChatCompletion]:
        found = [
            completion
            for completion, _ in self._visible().values()
            if where.model in (None, completion.model)
            and where.labels.items() <= completion.labels.items()
        ]
        found.sort(key=_position, reverse=newest_first)
        if after is not None:
            if after not in self._visible():
                raise InvalidValue("There is no such chat completion.", param="after")
            last = _position(self._one(after)[0])
            found = [
                each
                for each in found
                if (_position(each) < last if newest_first else _position(each) > last)
            ]
        items = found[:limit]
        return Page(items, items[-1].id if len(found) > limit else None)

    async def relabel(self, id: CompletionId, labels: Mapping[str, str]) -> None:
        completion, asked = self._one(id)
        tables = await self._transaction.writing()
        tables.completions[id] = (replace(completion, labels=dict(labels)), asked)

    async def remove(self, id: CompletionId) -> None:
        self._one(id)
        del (await self._transaction.writing()).completions[id]

    def _one(self, id: CompletionId) -> Kept:
        if id not in self._visible():
            raise CompletionNotFound(id)
        return self._visible()[id]

    def _visible(self) -> dict[CompletionId, Kept]:
        scope = self._transaction.scope
        return {
            id: kept
            for id, kept in self._transaction.tables.completions.items()
            if kept[0].project_id == scope.project_id
            and (scope.administers or kept[0].owner_id == scope.user_id)
        }


class MemoryCompletionPruner(Pruner):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def prune(self, before: datetime) -> int:
        async with self._store.writer:
            tables = self._store.tables.copy()
            old = [id for id, (each, _) in tables.completions.items() if each.created_at < before]
            for id in old:
                del tables.completions[id]
            self._store.tables = tables
        return len(old)


def _position(completion: ChatCompletion) -> tuple[datetime, str]:
    return completion.created_at, completion.id
