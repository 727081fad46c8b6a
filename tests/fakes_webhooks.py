"""Webhooks in memory, and a receiver that answers as it is told."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook, WebhookScope
from runtime.domain.errors import (
    ConcurrentChange,
    DeliveryNotFound,
    EgressRefused,
    WebhookNotFound,
)
from runtime.domain.events.base import Event
from runtime.domain.events.webhooks import DeliveriesQueued
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.repositories.webhooks import (
    Claimed,
    DeliveryQueue,
    Tried,
    WebhookRepository,
)
from runtime.domain.services.webhooks import Answered, WebhookSender
from runtime.domain.value_objects.ids import ProjectId, UserId, WebhookId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.webhooks import (
    EVERYTHING,
    FAILING_FOR,
    NOTHING_WELL,
    RunCallback,
    WebhookEvent,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.webhook_deliveries import callback_target

if TYPE_CHECKING:
    from tests.fakes import MemoryStore, MemoryTransaction

P = DeliveryStatus.PENDING


@dataclass(frozen=True)
class Queued:
    delivery: Delivery
    target: str
    body: str
    callback: RunCallback | None = None


@dataclass
class Outbox:
    project_id: ProjectId
    owner_id: UserId
    events: list[Event] = field(default_factory=lambda: [DeliveriesQueued()])


class MemoryWebhookRepository(WebhookRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add(self, webhook: Webhook) -> None:
        self._transaction.own(webhook)
        (await self._transaction.writing()).webhooks[webhook.id] = replace(webhook, events=[])

    async def get(self, id: WebhookId) -> Webhook:
        for each in self._visible():
            if each.id == id:
                return replace(each, events=[])
        raise WebhookNotFound(id)

    async def save(self, webhook: Webhook) -> None:
        await self._check(webhook)
        webhook.revision += 1
        (await self._transaction.writing()).webhooks[webhook.id] = replace(webhook, events=[])

    async def remove(self, webhook: Webhook) -> None:
        await self._check(webhook)
        tables = await self._transaction.writing()
        del tables.webhooks[webhook.id]
        for id, each in list(tables.webhook_deliveries.items()):
            if each.delivery.webhook_id == webhook.id:
                del tables.webhook_deliveries[id]

    async def count_own(self) -> int:
        scope = self._transaction.scope
        rows = self._transaction.tables.webhooks.values()
        owners = Counter((each.project_id, each.owner_id) for each in rows)
        return owners[scope.project_id, scope.user_id]

    async def page(self, *, limit: int, after: str | None) -> Page[Webhook]:
        cursors = Cursors("webhooks")
        found = sorted(self._visible(), key=_position, reverse=True)
        if after is not None:
            last = cursors.read(after)
            found = [each for each in found if _position(each) < last]
        return cursors.page(found[: limit + 1], limit, _position)

    async def queue(self, event: WebhookEvent) -> None:
        wanted = [
            each for each in self._transaction.tables.webhooks.values() if _wants(each, event)
        ]
        if not wanted and event.callback is None:
            return
        rows = (await self._transaction.writing()).webhook_deliveries
        for webhook in wanted:
            body = event.full_body if webhook.include_output else event.body
            delivery = _delivery(event, webhook.id[23:], webhook.owner_id, webhook.id)
            rows[delivery.id] = Queued(delivery, webhook.id, body)
        if callback := event.callback:
            delivery = _delivery(event, "0" * 12, event.owner_id, None)
            delivery = replace(delivery, run_id=callback.run)
            target = callback_target(callback.url)
            rows[delivery.id] = Queued(delivery, target, event.body, callback)
        self._tell()

    async def deliveries(
        self, id: WebhookId, status: DeliveryStatus | None, *, limit: int, after: str | None
    ) -> Page[Delivery]:
        cursors = Cursors("webhook_deliveries")
        found = sorted(
            (each for each in self._deliveries(id) if status in (None, each.status)),
            key=_position,
            reverse=True,
        )
        if after is not None:
            last = cursors.read(after)
            found = [each for each in found if _position(each) < last]
        return cursors.page(found[: limit + 1], limit, _position)

    async def try_again(self, id: WebhookId, delivery: str, at: datetime) -> Delivery:
        for each in self._deliveries(id):
            if each.id == delivery:
                rows = (await self._transaction.writing()).webhook_deliveries
                again = replace(each, status=P, next_at=at, ended_at=None)
                rows[delivery] = replace(rows[delivery], delivery=again)
                self._tell()
                return again
        raise DeliveryNotFound(delivery)

    def _tell(self) -> None:
        scope = self._transaction.scope
        self._transaction.seen.append(Outbox(scope.project_id, scope.user_id))

    async def _check(self, webhook: Webhook) -> None:
        found = (await self._transaction.writing()).webhooks.get(webhook.id)
        if found is None or found.revision != webhook.revision or found not in self._visible():
            raise ConcurrentChange(f"Webhook '{webhook.id}'")

    def _visible(self) -> list[Webhook]:
        rows = self._transaction.tables.webhooks.values()
        return [each for each in rows if self._shown(each)]

    def _deliveries(self, id: WebhookId) -> list[Delivery]:
        rows = self._transaction.tables.webhook_deliveries.values()
        found = [each.delivery for each in rows if each.delivery.webhook_id == id]
        return [each for each in found if self._shown(each)]

    def _shown(self, row: Webhook | Delivery) -> bool:
        scope = self._transaction.scope
        mine = scope.administers or row.owner_id == scope.user_id
        return mine and row.project_id == scope.project_id


class MemoryDeliveryQueue(DeliveryQueue):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def claim(
        self,
        at: datetime,
        until: datetime,
        *,
        room: int,
        per_target: int,
        going_on: Mapping[str, int],
    ) -> Sequence[Claimed]:
        async with self._store.writer:
            tables = self._store.tables = self._store.tables.copy()
            due = [each for each in tables.webhook_deliveries.values() if _due(each, at)]
            due.sort(key=lambda each: (each.delivery.next_at or at, each.delivery.id))
            count = Counter(going_on)
            taken: list[Claimed] = []
            for each in due:
                if len(taken) == room or count[each.target] >= per_target:
                    continue
                id, attempts = each.delivery.webhook_id, each.delivery.attempts + 1
                if id is not None and id not in tables.webhooks:
                    del tables.webhook_deliveries[each.delivery.id]
                    continue
                count[each.target] += 1
                delivery = replace(each.delivery, next_at=until, attempts=attempts)
                tables.webhook_deliveries[delivery.id] = replace(each, delivery=delivery)
                webhook = tables.webhooks[id] if id else None
                taken.append(_claimed(replace(each, delivery=delivery), webhook))
        return taken

    async def finish(self, claimed: Claimed, tried: Tried, at: datetime) -> bool:
        async with self._store.writer:
            tables = self._store.tables.copy()
            row = tables.webhook_deliveries.get(claimed.id)
            if row is None or not _still(row, claimed):
                return False
            delivery = replace(
                row.delivery,
                status=tried.status,
                next_at=tried.next_at,
                ended_at=None if tried.status is P else at,
                status_code=tried.status_code,
                error=tried.error,
                response=tried.response,
            )
            tables.webhook_deliveries[claimed.id] = replace(row, delivery=delivery)
            if claimed.webhook is not None and tried.sent:
                webhook = tables.webhooks[claimed.webhook.id]
                tables.webhooks[webhook.id] = _noted(webhook, tried, at)
            self._store.tables = tables
        return True

    async def give_back(self, claimed: Sequence[Claimed], at: datetime) -> None:
        async with self._store.writer:
            tables = self._store.tables.copy()
            for each in claimed:
                row = tables.webhook_deliveries[each.id]
                if _still(row, each):
                    attempts = row.delivery.attempts - 1
                    delivery = replace(row.delivery, next_at=at, attempts=attempts)
                    tables.webhook_deliveries[each.id] = replace(row, delivery=delivery)
            self._store.tables = tables


class MemoryDeliveryPruner(Pruner):
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store

    async def prune(self, before: datetime) -> int:
        async with self._store.writer:
            tables = self._store.tables.copy()
            old = [
                id
                for id, each in tables.webhook_deliveries.items()
                if each.delivery.ended_at and each.delivery.ended_at < before
            ]
            for id in old:
                del tables.webhook_deliveries[id]
            self._store.tables = tables
        return len(old)


@dataclass(frozen=True)
class Sent:
    url: str
    body: bytes
    headers: Mapping[str, str]


class FakeReceiver(WebhookSender):
    """Remembers what it is sent; answers 200 until it is told otherwise."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answer: Callable[[str], Answered] = lambda _: Answered(200, "ok")
        self.slow: Callable[[str], bool] = lambda _: False
        """Whom it never answers."""
        self.most_at_once = 0
        """Of those that it never answers."""
        self._waiting = 0
        self._news = asyncio.Condition()

    def check(self, url: str) -> None:
        if "10.0.0" in url:
            raise EgressRefused("10.0.0.1", "it is private.")

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        if self.slow(url):
            self._waiting += 1
            self.most_at_once = max(self.most_at_once, self._waiting)
            await self._tell()
            await asyncio.Event().wait()
        self.sent.append(Sent(url, body, headers))
        await self._tell()
        return self.answer(url)

    async def received(self, count: int, *, waiting: int = 0) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.sent) >= count and self._waiting >= waiting)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


def _wants(webhook: Webhook, event: WebhookEvent) -> bool:
    return (
        webhook.project_id == event.project_id
        and webhook.enabled
        and (webhook.scope is WebhookScope.PROJECT or webhook.owner_id == event.owner_id)
        and webhook.line_id in (None, event.line_id)
        and bool(webhook.types & {EVERYTHING, event.type})
    )


def _delivery(event: WebhookEvent, tail: str, owner: UserId, webhook: WebhookId | None) -> Delivery:
    return Delivery(
        id=f"whd_{event.id}{tail}",
        project_id=event.project_id,
        owner_id=owner,
        webhook_id=webhook,
        type=event.type,
        created_at=event.at,
        next_at=event.at,
    )


def _claimed(row: Queued, webhook: Webhook | None) -> Claimed:
    callback = row.callback
    return Claimed(
        id=row.delivery.id,
        attempt=row.delivery.attempts,
        target=row.target,
        project_id=row.delivery.project_id,
        url=webhook.url if webhook else callback.url if callback else "",
        body=row.body,
        webhook=webhook and replace(webhook, events=[]),
        run_id=row.delivery.run_id,
        callback_sealed=callback.secret_sealed if callback else "",
    )


def _noted(webhook: Webhook, tried: Tried, at: datetime) -> Webhook:
    if tried.status is DeliveryStatus.DELIVERED:
        return replace(webhook, failing_since=None)
    since = webhook.failing_since or at
    why = tried.disable or (NOTHING_WELL if since <= at - FAILING_FOR else None)
    noted = replace(webhook, failing_since=since)
    if why is None or not webhook.enabled:
        return noted
    revision = webhook.revision + 1
    return replace(noted, enabled=False, disabled_reason=why, updated_at=at, revision=revision)


def _due(row: Queued, at: datetime) -> bool:
    next_at = row.delivery.next_at
    return row.delivery.status is P and next_at is not None and next_at <= at


def _still(row: Queued, claimed: Claimed) -> bool:
    return row.delivery.status is P and row.delivery.attempts == claimed.attempt


def _position(row: Webhook | Delivery) -> Position:
    return Position(row.created_at, row.id)
