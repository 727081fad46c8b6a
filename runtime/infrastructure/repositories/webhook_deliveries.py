from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import BigInteger, Column, Index, Row, Table, text

from runtime.domain.entities.webhooks import Delivery, DeliveryStatus
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId, WebhookId
from runtime.infrastructure.repositories.base import Key, UtcDateTime, Words, metadata
from runtime.infrastructure.repositories.pruning import SqlPruner

_PENDING = text("status = 'pending'")
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Words, nullable=False),
    Column("owner_id", Words, nullable=False),
    Column("webhook_id", Words),
    Column("run_id", Words),
    Column("target", Words, nullable=False),
    Column("url", Words),
    Column("secret_sealed", Words),
    Column("type", Words, nullable=False),
    Column("body", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("status_code", BigInteger),
    Column("error", Words),
    Column("response", Words),
    Index(
        "ix_webhook_deliveries_due",
        "next_at",
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    ),
    Index(None, "webhook_id", "created_at", "id"),
    Index(None, "ended_at"),
)
_COLUMNS = webhook_deliveries.c


class SqlDeliveryPruner(SqlPruner):
    at = _COLUMNS.ended_at


def callback_target(url: str) -> str:
    return f"callback {urlsplit(url).netloc}"


def to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        webhook_id=row.webhook_id and WebhookId(row.webhook_id),
        run_id=row.run_id and RunId(row.run_id),
        type=row.type,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        created_at=row.created_at,
        next_at=row.next_at,
        ended_at=row.ended_at,
        status_code=row.status_code,
        error=row.error,
        response=row.response,
    )
