"""The outbox, as the processes that empty it see it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.webhooks import DeliveryStatus, Webhook
from runtime.domain.repositories.webhooks import Claimed, DeliveryQueue, Tried
from runtime.domain.value_objects.ids import ProjectId, RunId
from runtime.domain.value_objects.webhooks import FAILING_FOR, NOTHING_WELL
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.webhook_deliveries import webhook_deliveries
from runtime.infrastructure.repositories.webhooks import to_webhook, webhooks

_COLUMNS = webhook_deliveries.c
_LOOKED_AT = 500
"""Of those that are due, the oldest: more would make each look dearer."""


class SqlDeliveryQueue(DeliveryQueue):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(
        self,
        at: datetime,
        until: datetime,
        *,
        room: int,
        per_target: int,
        going_on: Mapping[str, int],
    ) -> Sequence[Claimed]:
        with refusals():
            async with self._engine.connect() as connection:
                query = _chosen(at, room, per_target, going_on)
                # Read first: a write would take SQLite's one lock each time that nothing is due.
                ids = [row.id for row in await connection.execute(query)]
                if not ids:
                    return []
                rows = await _taken(connection, ids, at, until)
                endpoints = await _endpoints(connection, rows)
                await connection.commit()
        return [
            _claimed(row, endpoints.get(row.webhook_id))
            for row in rows
            if row.webhook_id is None or row.webhook_id in endpoints
        ]

    async def finish(self, claimed: Claimed, tried: Tried, at: datetime) -> bool:
        statement = (
            update(webhook_deliveries)
            .where(*_still(claimed))
            .values(
                status=tried.status,
                next_at=tried.next_at,
                ended_at=None if tried.status is DeliveryStatus.PENDING else at,
                status_code=tried.status_code,
                error=tried.error,
                response=tried.response,
            )
        )
        with refusals():
            async with self._engine.begin() as connection:
                if (await connection.execute(statement)).rowcount != 1:
                    return False
                if claimed.webhook is not None and tried.sent:
                    await _note_health(connection, claimed.webhook, tried, at)
        return True

    async def give_back(self, claimed: Sequence[Claimed], at: datetime) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                for each in claimed:
                    statement = update(webhook_deliveries).where(*_still(each))
                    await connection.execute(
                        statement.values(next_at=at, attempts=_COLUMNS.attempts - 1)
                    )


def _chosen(
    at: datetime, room: int, per_target: int, going_on: Mapping[str, int]
) -> Select[tuple[str]]:
    full = [target for target, count in going_on.items() if count >= per_target]
    oldest = (
        select(_COLUMNS.id, _COLUMNS.target, _COLUMNS.next_at)
        .where(*_due(at), _COLUMNS.target.not_in(full))
        .order_by(_COLUMNS.next_at)
        .limit(_LOOKED_AT)
        .subquery()
    )
    place = func.row_number().over(
        partition_by=oldest.c.target, order_by=(oldest.c.next_at, oldest.c.id)
    )
    ranked = select(oldest, place.label("place")).subquery()
    left: Any = per_target
    if going_on:
        some = {target: per_target - count for target, count in going_on.items()}
        left = case(some, value=ranked.c.target, else_=per_target)
    query = select(ranked.c.id).where(ranked.c.place <= left)
    return query.order_by(ranked.c.next_at).limit(room)


async def _taken(
    connection: AsyncConnection, ids: Sequence[str], at: datetime, until: datetime
) -> Sequence[Row[Any]]:
    """Those of them that nobody else took in between."""
    free = select(_COLUMNS.id).where(_COLUMNS.id.in_(ids), *_due(at))
    statement = (
        update(webhook_deliveries)
        .where(_COLUMNS.id.in_(free.with_for_update(skip_locked=True)), *_due(at))
        .values(next_at=until, attempts=_COLUMNS.attempts + 1)
        .returning(*_COLUMNS)
    )
    return (await connection.execute(statement)).all()


async def _endpoints(
    connection: AsyncConnection, rows: Sequence[Row[Any]]
) -> Mapping[str, Webhook]:
    """By id. What was queued for an endpoint while it was deleted goes with it."""
    ids = {row.webhook_id for row in rows if row.webhook_id is not None}
    found = await connection.execute(select(webhooks).where(webhooks.c.id.in_(ids)))
    endpoints = {row.id: to_webhook(row) for row in found}
    if gone := ids - endpoints.keys():
        await connection.execute(delete(webhook_deliveries).where(_COLUMNS.webhook_id.in_(gone)))
    return endpoints


async def _note_health(
    connection: AsyncConnection, webhook: Webhook, tried: Tried, at: datetime
) -> None:
    columns = webhooks.c
    of_it = update(webhooks).where(columns.id == webhook.id)
    if tried.status is DeliveryStatus.DELIVERED:
        if webhook.failing_since is not None:
            await connection.execute(of_it.values(failing_since=None))
        return
    await connection.execute(of_it.where(columns.failing_since.is_(None)).values(failing_since=at))
    failed_long = columns.failing_since <= at - FAILING_FOR
    disabling = of_it if tried.disable else of_it.where(failed_long)
    await connection.execute(
        disabling.where(columns.enabled).values(
            enabled=False,
            disabled_reason=tried.disable or NOTHING_WELL,
            updated_at=at,
            revision=columns.revision + 1,
        )
    )


def _due(at: datetime) -> tuple[ColumnElement[bool], ...]:
    return _COLUMNS.status == DeliveryStatus.PENDING, _COLUMNS.next_at <= at


def _still(claimed: Claimed) -> tuple[ColumnElement[bool], ...]:
    """Nobody else has it by now."""
    return (
        _COLUMNS.id == claimed.id,
        _COLUMNS.attempts == claimed.attempt,
        _COLUMNS.status == DeliveryStatus.PENDING,
    )


def _claimed(row: Row[Any], webhook: Webhook | None) -> Claimed:
    return Claimed(
        id=row.id,
        attempt=row.attempts,
        target=row.target,
        project_id=ProjectId(row.project_id),
        url=webhook.url if webhook else row.url,
        body=row.body,
        webhook=webhook,
        run_id=row.run_id and RunId(row.run_id),
        callback_sealed=row.secret_sealed or "",
    )
