from typing import Any

from sqlalchemy import Column, Index, Row, Table, select, tuple_

from runtime.domain.entities.audit import AuditEntry
from runtime.domain.repositories.audit import AuditRepository
from runtime.domain.value_objects.ids import AgentId, AuditId, LineId, ProjectId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position

audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("actor_id", Key, nullable=False),
    Column("action", Words, nullable=False),
    # No foreign keys: what was done to a version outlives the version.
    Column("agent_id", Key, nullable=False),
    Column("line_id", Key, nullable=False),
    Column("before_hash", Words),
    Column("after_hash", Words),
    Column("before_status", Words),
    Column("after_status", Words),
    Column("detail", Json, nullable=False),
    Index(None, "project_id", "line_id", "at", "id"),
)


class SqlAuditRepository(SqlRepository, AuditRepository):
    async def add(self, entry: AuditEntry) -> None:
        if not await self._insert(audit, _values(entry)):
            raise ValueError(f"audit entry {entry.id} was written before")

    async def of_line(self, id: LineId, *, limit: int, after: str | None) -> Page[AuditEntry]:
        cursors = Cursors(f"audit/{id}")
        query = select(audit).where(audit.c.project_id == self._project, audit.c.line_id == id)
        if not self._scope.sees_all:
            query = query.where(audit.c.owner_id == self._scope.user_id)
        query = query.order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(tuple_(audit.c.at, audit.c.id) < cursors.read(after))
        found = [_to_entry(row) for row in await self._execute(query)]
        return cursors.page(found, limit, lambda entry: Position(entry.at, entry.id))


def _values(entry: AuditEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "at": entry.at,
        "project_id": entry.project_id,
        "owner_id": entry.owner_id,
        "actor_id": entry.actor_id,
        "action": entry.action,
        "agent_id": entry.agent_id,
        "line_id": entry.line_id,
        "before_hash": entry.before_hash,
        "after_hash": entry.after_hash,
        "before_status": entry.before_status,
        "after_status": entry.after_status,
        "detail": entry.detail,
    }


def _to_entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=AuditId(row.id),
        at=row.at,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        actor_id=UserId(row.actor_id),
        action=row.action,
        agent_id=AgentId(row.agent_id),
        line_id=LineId(row.line_id),
        before_hash=row.before_hash,
        after_hash=row.after_hash,
        before_status=row.before_status,
        after_status=row.after_status,
        detail=row.detail,
    )
