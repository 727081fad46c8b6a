from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Index,
    Insert,
    Row,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook, WebhookScope
from runtime.domain.errors import ConcurrentChange, DeliveryNotFound, WebhookNotFound
from runtime.domain.events.base import Event
from runtime.domain.events.webhooks import DeliveriesQueued
from runtime.domain.repositories.webhooks import WebhookRepository
from runtime.domain.value_objects.ids import LineId, ProjectId, UserId, WebhookId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.webhooks import EVERYTHING, WebhookEvent
from runtime.infrastructure.repositories.base import (
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
    storable,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.webhook_deliveries import (
    callback_target,
    to_delivery,
    webhook_deliveries,
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Words, nullable=False),
    Column("url", Words, nullable=False),
    Column("event_types", Words, nullable=False),
    Column("line_id", Words),
    Column("scope", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("include_output", Boolean, nullable=False),
    Column("secret_sealed", Words, nullable=False),
    Column("previous_sealed", Words),
    Column("previous_until", UtcDateTime),
    Column("failing_since", UtcDateTime),
    Column("disabled_reason", Words),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "project_id", "created_at", "id"),
)
_COLUMNS = webhooks.c
_SENT = webhook_deliveries.c
_CURSORS = Cursors("webhooks")
_DELIVERY_CURSORS = Cursors("webhook_deliveries")
_TAIL = 24
"""Where the last twelve characters of an endpoint's id begin."""
_CALLBACKS_TAIL = "0" * 12


@dataclass
class _Outbox:
    """Tells, after the commit, that there is something in it."""

    events: list[Event] = field(default_factory=lambda: [DeliveriesQueued()])


class SqlWebhookRepository(SqlRepository, WebhookRepository):
    async def add(self, webhook: Webhook) -> None:
        if not await self._insert(webhooks, _values(webhook)):
            raise ValueError(f"webhook {webhook.id} was written before")

    async def get(self, id: WebhookId) -> Webhook:
        query = select(webhooks).where(*self._visible(webhooks), _COLUMNS.id == storable(id))
        row = (await self._execute(query)).first()
        if row is None:
            raise WebhookNotFound(id)
        return to_webhook(row)

    async def save(self, webhook: Webhook) -> None:
        if not await self._update(webhooks, webhook.id, webhook.revision, _values(webhook)):
            raise ConcurrentChange(f"Webhook '{webhook.id}'")
        webhook.revision += 1

    async def remove(self, webhook: Webhook) -> None:
        if not await self._delete(webhooks, webhook.id, webhook.revision):
            raise ConcurrentChange(f"Webhook '{webhook.id}'")
        await self._execute(delete(webhook_deliveries).where(_SENT.webhook_id == webhook.id))

    async def count_own(self) -> int:
        query = select(func.count()).where(
            _COLUMNS.project_id == self._project, _COLUMNS.owner_id == self._scope.user_id
        )
        return int((await self._execute(query)).scalar_one())

    async def page(self, *, limit: int, after: str | None) -> Page[Webhook]:
        query = select(webhooks).where(*self._visible(webhooks))
        query = query.order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        if after is not None:
            query = query.where(tuple_(_COLUMNS.created_at, _COLUMNS.id) < _CURSORS.read(after))
        found = [to_webhook(row) for row in await self._execute(query.limit(limit + 1))]
        return _CURSORS.page(found, limit, lambda each: Position(each.created_at, each.id))

    async def queue(self, event: WebhookEvent) -> None:
        queued = (await self._execute(_FAN_OUT, _fan_out_values(event))).rowcount
        if event.callback is not None:
            await self._execute(insert(webhook_deliveries), _callback_values(event))
            queued += 1
        if queued:
            self._seen.append(_Outbox())

    async def deliveries(
        self, id: WebhookId, status: DeliveryStatus | None, *, limit: int, after: str | None
    ) -> Page[Delivery]:
        query = select(webhook_deliveries).where(
            *self._visible(webhook_deliveries), _SENT.webhook_id == storable(id)
        )
        if status is not None:
            query = query.where(_SENT.status == status)
        if after is not None:
            last = _DELIVERY_CURSORS.read(after)
            query = query.where(tuple_(_SENT.created_at, _SENT.id) < last)
        query = query.order_by(_SENT.created_at.desc(), _SENT.id.desc()).limit(limit + 1)
        found = [to_delivery(row) for row in await self._execute(query)]
        return _DELIVERY_CURSORS.page(found, limit, lambda each: Position(each.created_at, each.id))

    async def try_again(self, id: WebhookId, delivery: str, at: datetime) -> Delivery:
        statement = (
            update(webhook_deliveries)
            .where(
                *self._visible(webhook_deliveries),
                _SENT.webhook_id == storable(id),
                _SENT.id == storable(delivery),
            )
            .values(status=DeliveryStatus.PENDING, next_at=at, ended_at=None)
            .returning(*_SENT)
        )
        row = (await self._execute(statement)).first()
        if row is None:
            raise DeliveryNotFound(delivery)
        self._seen.append(_Outbox())
        return to_delivery(row)


def _fan_out() -> Insert:
    """One statement for any number of endpoints, and for none."""
    body = case((_COLUMNS.include_output, _word("full_body")), else_=_word("body"))
    columns = {
        "id": _word("prefix") + func.substr(_COLUMNS.id, _TAIL),
        "project_id": _COLUMNS.project_id,
        "owner_id": _COLUMNS.owner_id,
        "webhook_id": _COLUMNS.id,
        "target": _COLUMNS.id,
        "type": _word("type"),
        "body": body,
        "status": literal(DeliveryStatus.PENDING, Words),
        "attempts": literal(0, BigInteger),
        "created_at": bindparam("at", type_=UtcDateTime),
        "next_at": bindparam("at", type_=UtcDateTime),
    }
    wanted = select(*columns.values()).where(
        _COLUMNS.project_id == _word("project"),
        _COLUMNS.enabled,
        or_(_COLUMNS.scope == WebhookScope.PROJECT, _COLUMNS.owner_id == _word("owner")),
        or_(_COLUMNS.line_id.is_(None), _COLUMNS.line_id == _word("line")),
        or_(
            _COLUMNS.event_types == _joined([EVERYTHING]),
            _COLUMNS.event_types.contains(_word("listed_type")),
        ),
    )
    statement = insert(webhook_deliveries).from_select(list(columns), wanted)
    return statement.execution_options(preserve_rowcount=True)


def _fan_out_values(event: WebhookEvent) -> Mapping[str, object]:
    return {
        "prefix": f"whd_{event.id}",
        "project": event.project_id,
        "owner": event.owner_id,
        "line": event.line_id,
        "type": event.type,
        "listed_type": _joined([event.type]),
        "body": event.body,
        "full_body": event.full_body,
        "at": event.at,
    }


def _word(name: str) -> BindParameter[str]:
    return bindparam(name, type_=Words)


def _callback_values(event: WebhookEvent) -> Mapping[str, object]:
    callback = event.callback
    assert callback is not None
    return {
        "id": f"whd_{event.id}{_CALLBACKS_TAIL}",
        "project_id": event.project_id,
        "owner_id": event.owner_id,
        "run_id": callback.run,
        "target": callback_target(callback.url),
        "url": callback.url,
        "secret_sealed": callback.secret_sealed,
        "type": event.type,
        "body": event.body,
        "status": DeliveryStatus.PENDING,
        "attempts": 0,
        "created_at": event.at,
        "next_at": event.at,
    }


def _joined(types: list[str]) -> str:
    """So that each can be found with its commas."""
    return f",{','.join(types)},"


def _values(webhook: Webhook) -> dict[str, object]:
    return {
        "id": webhook.id,
        "project_id": webhook.project_id,
        "owner_id": webhook.owner_id,
        "url": webhook.url,
        "event_types": _joined(webhook.ordered_types),
        "line_id": webhook.line_id,
        "scope": webhook.scope,
        "description": webhook.description,
        "enabled": webhook.enabled,
        "include_output": webhook.include_output,
        "secret_sealed": webhook.secret_sealed,
        "previous_sealed": webhook.previous_sealed,
        "previous_until": webhook.previous_until,
        "failing_since": webhook.failing_since,
        "disabled_reason": webhook.disabled_reason,
        "created_at": webhook.created_at,
        "updated_at": webhook.updated_at,
        "revision": webhook.revision,
    }


def to_webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        id=WebhookId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        url=row.url,
        types=frozenset(row.event_types.strip(",").split(",")),
        line_id=row.line_id and LineId(row.line_id),
        scope=WebhookScope(row.scope),
        description=row.description,
        enabled=row.enabled,
        include_output=row.include_output,
        secret_sealed=row.secret_sealed,
        previous_sealed=row.previous_sealed,
        previous_until=row.previous_until,
        failing_since=row.failing_since,
        disabled_reason=row.disabled_reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
        revision=row.revision,
    )


_FAN_OUT = _fan_out()
"""Made once: every run that ends needs it, and making it takes longer than the rest."""
