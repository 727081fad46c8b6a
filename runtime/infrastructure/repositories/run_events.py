"""Events of runs as JSON, and the log that keeps them."""

from collections.abc import Iterator, Sequence

from sqlalchemy import BigInteger, Column, ColumnElement, Table, delete, func, select

from runtime.domain.events.runs import (
    RunEvent,
)
from runtime.domain.repositories.responses import RunEventRepository
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.event_json import event_from_json, event_to_json
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    Values,
    insert_if_new,
    insertable,
    metadata,
)

run_events = Table(
    "run_events",
    metadata,
    # No foreign key: whatever outlives its reader may have a log.
    Column("run_id", Key, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("event", Json, nullable=False),
    # Of a durable run; what wrote it, where the answer to a commit was lost.
    Column("attempt", BigInteger),
)


class SqlRunEventRepository(SqlRepository, RunEventRepository):
    async def append(self, run: RunId, after: int, events: Sequence[RunEvent]) -> bool:
        rows = event_rows(self._scope, run, after, events)
        if not rows:
            return True
        statement = insert_if_new(run_events, self._connection.dialect.name).values(rows)
        statement = statement.returning(run_events.c.seq)
        first = (await self._execute(statement)).first()
        # Where the first number is taken the others may have found a place behind it: they go
        # with the transaction, which whoever has lost the run does not commit.
        return first is not None and first.seq == after + 1

    async def read(self, run: RunId, *, after: int, limit: int) -> Sequence[RunEvent]:
        query = select(run_events.c.event).where(*self._shown(run), run_events.c.seq > after)
        query = query.order_by(run_events.c.seq).limit(limit)
        return [event_from_json(row.event) for row in await self._execute(query)]

    async def last(self, run: RunId) -> int:
        query = select(func.max(run_events.c.seq)).where(*self._shown(run))
        return (await self._execute(query)).scalar() or 0

    async def remove(self, run: RunId) -> None:
        await self._execute(delete(run_events).where(*self._shown(run)))

    def _shown(self, run: RunId) -> Iterator[ColumnElement[bool]]:
        yield run_events.c.run_id == run
        yield from self._visible(run_events)


def event_rows(scope: Scope, run: RunId, after: int, events: Sequence[RunEvent]) -> list[Values]:
    return [
        insertable(
            run_events,
            {
                "run_id": run,
                "seq": seq,
                "project_id": scope.project_id,
                "owner_id": scope.user_id,
                "event": event_to_json(event),
            },
        )
        for seq, event in enumerate(events, after + 1)
    ]
