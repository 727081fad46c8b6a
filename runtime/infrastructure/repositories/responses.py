from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Row,
    Table,
    Update,
    delete,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.responses import Response, ResponseFailure, ResponseStatus
from runtime.domain.errors import ExecutionFailed, PreviousResponseNotFound, ResponseNotFound
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.repositories.responses import ResponseRepository
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import ProjectId, ResponseId, UserId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.items import from_json, to_json
from runtime.infrastructure.repositories.run_events import run_events

responses = Table(
    "responses",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("model", Words, nullable=False),
    Column("status", Key, nullable=False),
    Column("background", Boolean, nullable=False),
    # No foreign key: a response outlives the one it follows on.
    Column("previous_id", Key),
    Column("conversation", Key),
    Column("created_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    # Where a replica without durable runs answers it, until when that one does.
    Column("lease_until", UtcDateTime),
    Column("settings", Json, nullable=False),
    Column("input", Json, nullable=False),
    Column("output", Json, nullable=False),
    Column("usage", Json, nullable=False),
    Column("failure", Json, nullable=False),
    Column("incomplete_reason", Words),
    Index(None, "created_at"),
    Index(None, "lease_until"),
)
_PRUNED_AT_ONCE = 500
_GOING_ON = responses.c.status.in_((ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS))


class SqlResponseRepository(SqlRepository, ResponseRepository):
    async def add(self, response: Response) -> None:
        if not await self._insert(responses, _values(response)):
            raise ValueError(f"response {response.id} was written before")

    async def get(self, id: ResponseId) -> Response:
        query = select(responses).where(responses.c.id == id, *self._visible(responses))
        row = (await self._execute(query)).first()
        if row is None:
            raise ResponseNotFound(id)
        return _to_response(row)

    async def chain(self, id: ResponseId) -> Sequence[Response]:
        depth = literal(0).label("depth")
        newest = select(responses, depth).where(responses.c.id == id, *self._visible(responses))
        chain = newest.cte("chain", recursive=True)
        older = select(responses, (chain.c.depth + 1).label("depth")).where(
            responses.c.id == chain.c.previous_id, *self._visible(responses)
        )
        chain = chain.union_all(older)
        rows = await self._execute(select(chain).order_by(chain.c.depth.desc()))
        found = [_to_response(row) for row in rows]
        missing = found[0].previous_id if found else id
        if missing:
            raise PreviousResponseNotFound(missing)
        return found

    async def finish(self, response: Response) -> bool:
        statement = ending(response).where(*self._visible(responses))
        return (await self._execute(statement)).rowcount == 1

    async def remove(self, id: ResponseId) -> None:
        statement = delete(responses).where(responses.c.id == id, *self._visible(responses))
        if (await self._execute(statement)).rowcount == 0:
            raise ResponseNotFound(id)


def ending(response: Response) -> Update:
    """Changes one row, where nobody has ended it before."""
    statement = update(responses).where(responses.c.id == response.id, _GOING_ON)
    return statement.values(_values(response))


class SqlResponsePruner(Pruner):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        gone = 0
        while True:
            some = await self._prune_some(before)
            gone += some
            if some < _PRUNED_AT_ONCE:
                return gone

    async def _prune_some(self, before: datetime) -> int:
        old = select(responses.c.id).where(responses.c.created_at < before, ~_GOING_ON)
        some = old.limit(_PRUNED_AT_ONCE)
        with refusals():
            async with self._engine.begin() as connection:
                gone = delete(responses).where(responses.c.id.in_(some)).returning(responses.c.id)
                ids = [row.id for row in await connection.execute(gone)]
                runs = [ResponseId(id).replace("resp_", "run_", 1) for id in ids]
                await connection.execute(delete(run_events).where(run_events.c.run_id.in_(runs)))
                return len(ids)


class SqlLapsedResponses(Pruner):
    """Ends what replicas without durable runs had begun in the background, and nobody sees to
    any more."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        why = "The process that ran the agent ended before the answer was there. Ask again."
        failed = {
            "status": ResponseStatus.FAILED,
            "failure": asdict(ResponseFailure.of(ExecutionFailed(why))),
            "lease_until": None,
        }
        lapsed = update(responses).where(responses.c.lease_until < before, _GOING_ON)
        with refusals():
            async with self._engine.begin() as connection:
                return (await connection.execute(lapsed.values(failed))).rowcount


def _values(response: Response) -> dict[str, object]:
    usage, failure = response.usage, response.failure
    return {
        "id": response.id,
        "project_id": response.project_id,
        "owner_id": response.owner_id,
        "model": response.model,
        "status": response.status,
        "background": response.background,
        "previous_id": response.previous_id,
        "conversation": response.conversation,
        "created_at": response.created_at,
        "completed_at": response.completed_at,
        "settings": response.settings,
        "input": [to_json(item) for item in response.input],
        "output": [to_json(item) for item in response.output],
        "usage": usage and asdict(usage),
        "failure": failure and asdict(failure),
        "incomplete_reason": response.incomplete_reason,
    }


def _to_response(row: Row[Any]) -> Response:
    return Response(
        id=ResponseId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        model=row.model,
        status=ResponseStatus(row.status),
        background=row.background,
        previous_id=row.previous_id,
        conversation=row.conversation,
        created_at=row.created_at,
        completed_at=row.completed_at,
        settings=row.settings,
        input=[from_json(item) for item in row.input],
        output=[from_json(item) for item in row.output],
        usage=Usage(**row.usage) if row.usage else None,
        failure=ResponseFailure(**row.failure) if row.failure else None,
        incomplete_reason=row.incomplete_reason,
    )
