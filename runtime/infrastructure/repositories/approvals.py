from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Row,
    Table,
    UniqueConstraint,
    exists,
    or_,
    select,
    text,
    tuple_,
    update,
)

from runtime.domain.entities.approvals import Approval
from runtime.domain.errors import ApprovalNotFound
from runtime.domain.repositories.approvals import ApprovalFilter, ApprovalRepository
from runtime.domain.services.durability import Decision
from runtime.domain.value_objects.ids import ApprovalId, ProjectId, RunId, UserId
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
from runtime.infrastructure.repositories.durable_runs import durable_runs

_PENDING = text("decision IS NULL")
approvals = Table(
    "approvals",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("kind", Words, nullable=False),
    Column("key", Key, nullable=False),
    Column("tool", Words, nullable=False),
    Column("arguments", Words, nullable=False),
    Column("value", Json, nullable=False),
    Column("call_id", Words, nullable=False),
    Column("approver", Words, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("decision", Words),
    Column("decided_by", Words),
    Column("decided_at", UtcDateTime),
    Column("answer", Json, nullable=False),
    UniqueConstraint("run_id", "key"),
    Index(None, "project_id", "requested_at", "id"),
    Index(
        "ix_approvals_pending",
        "project_id",
        "requested_at",
        "id",
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    ),
)
_c = approvals.c
_OVER = exists().where(durable_runs.c.id == _c.run_id, durable_runs.c.ended_at.is_not(None))
"""Their run has ended, and nobody has to answer any more."""


class SqlApprovalRepository(SqlRepository, ApprovalRepository):
    async def add_all(self, asked: Sequence[Approval]) -> Sequence[Approval]:
        return [each for each in asked if await self._insert(approvals, _values(each))]

    async def get(self, id: ApprovalId) -> Approval:
        query = select(approvals).where(*self._visible(approvals), _c.id == id)
        row = (await self._execute(query)).first()
        if row is None:
            raise ApprovalNotFound(id)
        return _to_approval(row)

    async def of_run(self, run: RunId) -> Sequence[Approval]:
        query = select(approvals).where(*self._visible(approvals), _c.run_id == run)
        query = query.order_by(_c.requested_at, _c.id)
        return [_to_approval(row) for row in await self._execute(query)]

    async def decide(self, approval: Approval) -> bool:
        open = (*self._visible(approvals), _c.id == approval.id, _c.decision.is_(None))
        statement = update(approvals).where(*open).values(_answer(approval))
        return (await self._execute(statement)).rowcount == 1

    async def page(self, where: ApprovalFilter, *, limit: int, after: str | None) -> Page[Approval]:
        cursors = Cursors("approvals")
        query = select(approvals).where(*self._visible(approvals))
        if where.run is not None:
            query = query.where(_c.run_id == where.run)
        if where.decided is not None:
            answered = _c.decision.is_not(None)
            query = query.where(answered) if where.decided else query.where(~answered, ~_OVER)
        if after is not None:
            query = query.where(tuple_(_c.requested_at, _c.id) < cursors.read(after))
        query = query.order_by(_c.requested_at.desc(), _c.id.desc()).limit(limit + 1)
        found = [_to_approval(row) for row in await self._execute(query)]
        return cursors.page(found, limit, lambda each: Position(each.requested_at, each.id))

    def _visible(self, table: Table) -> Iterator[ColumnElement[bool]]:
        yield _c.project_id == self._project
        mine = _c.owner_id == self._scope.user_id
        if not self._scope.administers:
            yield or_(mine, _c.approver == "reviewer") if self._scope.sees_all else mine


def _values(approval: Approval) -> Mapping[str, object]:
    return {
        "id": approval.id,
        "run_id": approval.run_id,
        "project_id": approval.project_id,
        "owner_id": approval.owner_id,
        "kind": approval.kind,
        "key": approval.key,
        "tool": approval.tool,
        "arguments": approval.arguments,
        "value": approval.value,
        "call_id": approval.call_id,
        "approver": approval.approver,
        "requested_at": approval.requested_at,
        **_answer(approval),
    }


def _answer(approval: Approval) -> dict[str, object]:
    answer = approval.answer
    given = answer and {
        "arguments": answer.arguments,
        "value": answer.value,
        "reason": answer.reason,
    }
    return {
        "decision": answer and answer.decision,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at,
        "answer": given,
    }


def _to_approval(row: Row[Any]) -> Approval:
    answer = None
    if row.decision is not None:
        answer = Decision(row.decision, **row.answer, decided_by=row.decided_by)
    return Approval(
        id=ApprovalId(row.id),
        run_id=RunId(row.run_id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        kind=row.kind,
        key=row.key,
        call_id=row.call_id,
        tool=row.tool,
        arguments=row.arguments,
        value=row.value,
        approver=row.approver,
        requested_at=row.requested_at,
        answer=answer,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )
