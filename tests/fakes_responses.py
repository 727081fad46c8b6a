"""Responses and the events of runs, in memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from runtime.domain.entities.responses import Response
from runtime.domain.errors import InvalidValue, PreviousResponseNotFound, ResponseNotFound
from runtime.domain.events.runs import RunEvent
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.repositories.responses import ResponseRepository, RunEventRepository
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ResponseId, RunId
from runtime.infrastructure.event_json import event_from_json, event_to_json
from runtime.infrastructure.repositories.base import MAX_KEY, storable
from runtime.infrastructure.repositories.items import from_json, to_json

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction


@dataclass(frozen=True)
class LoggedEvent:
    scope: Scope
    json: str


class MemoryResponseRepository(ResponseRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add(self, response: Response) -> None:
        self._transaction.own(response)
        tables = await self._transaction.writing()
        if response.id in tables.responses:
            raise ValueError(f"response {response.id} was written before")
        tables.responses[response.id] = _stored(response)

    async def get(self, id: ResponseId) -> Response:
        found = self._find(id)
        if found is None:
            raise ResponseNotFound(id)
        return found

    async def chain(self, id: ResponseId) -> Sequence[Response]:
        chain: list[Response] = []
        next_id: ResponseId | None = id
        while next_id:
            found = self._find(next_id)
            if found is None:
                raise PreviousResponseNotFound(next_id)
            chain.insert(0, found)
            next_id = found.previous_id
        return chain

    async def finish(self, response: Response) -> bool:
        tables = await self._transaction.writing()
        stored = self._find(response.id)
        if stored is None or stored.status.final:
            return False
        tables.responses[response.id] = _stored(response)
        return True

    async def remove(self, id: ResponseId) -> None:
        tables = await self._transaction.writing()
        del tables.responses[(await self.get(id)).id]

    def _find(self, id: ResponseId) -> Response | None:
        found = self._transaction.tables.responses.get(id)
        if found is None or found.project_id != self._transaction.scope.project_id:
            return None
        administers = self._transaction.scope.administers
        return found if administers or self._transaction.mine(found) else None


class MemoryRunEventRepository(RunEventRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def append(self, run: RunId, after: int, events: Sequence[RunEvent]) -> bool:
        rows = [LoggedEvent(self._transaction.scope, _json(event)) for event in events]
        tables = await self._transaction.writing()
        if (run, after + 1) in tables.run_events:
            return False
        tables.run_events.update({(run, seq): row for seq, row in enumerate(rows, after + 1)})
        return True

    async def read(self, run: RunId, *, after: int, limit: int) -> Sequence[RunEvent]:
        rows = [row for seq, row in self._rows(run) if seq > after]
        return [event_from_json(json.loads(row.json)) for row in rows[:limit]]

    async def last(self, run: RunId) -> int:
        return max((seq for seq, _ in self._rows(run)), default=0)

    async def remove(self, run: RunId) -> None:
        tables = await self._transaction.writing()
        for seq, _ in self._rows(run):
            del tables.run_events[run, seq]

    def _rows(self, run: RunId) -> list[tuple[int, LoggedEvent]]:
        scope = self._transaction.scope
        return sorted(
            (
                (seq, row)
                for (of, seq), row in self._transaction.tables.run_events.items()
                if of == run
                and row.scope.project_id == scope.project_id
                and (scope.administers or row.scope.user_id == scope.user_id)
            ),
            key=lambda numbered: numbered[0],
        )


class MemoryResponsePruner(Pruner):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def prune(self, before: datetime) -> int:
        async with self._store.writer:
            tables = self._store.tables.copy()
            old = [
                response
                for response in tables.responses.values()
                if response.created_at < before and response.status.final
            ]
            for response in old:
                del tables.responses[response.id]
                for key in [key for key in tables.run_events if key[0] == response.run_id]:
                    del tables.run_events[key]
            self._store.tables = tables
            return len(old)


def _stored(response: Response) -> Response:
    """Through JSON and back, and refused where a database would refuse it."""
    if len(response.conversation or "") > MAX_KEY:
        raise InvalidValue("An identifier is too long.", param="conversation")
    return replace(
        response,
        settings=json.loads(storable(json.dumps(response.settings, ensure_ascii=False))),
        input=[from_json(to_json(item)) for item in response.input],
        output=[from_json(to_json(item)) for item in response.output],
    )


def _json(event: RunEvent) -> str:
    return storable(json.dumps(event_to_json(event), ensure_ascii=False))
