"""What runs wait for, in memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.domain.entities.approvals import Approval
from runtime.domain.errors import ApprovalNotFound
from runtime.domain.repositories.approvals import ApprovalFilter, ApprovalRepository
from runtime.domain.value_objects.ids import ApprovalId, RunId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.cursors import Cursors, Position

if TYPE_CHECKING:
    from tests.fakes import MemoryTransaction


class MemoryApprovalRepository(ApprovalRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def add_all(self, asked: Sequence[Approval]) -> Sequence[Approval]:
        tables = await self._transaction.writing()
        new = []
        for each in asked:
            self._transaction.own(each)
            keys = {(other.run_id, other.key) for other in tables.approvals.values()}
            if (each.run_id, each.key) not in keys:
                tables.approvals[each.id] = each
                new.append(each)
        return new

    async def get(self, id: ApprovalId) -> Approval:
        for each in self._visible():
            if each.id == id:
                return each
        raise ApprovalNotFound(id)

    async def of_run(self, run: RunId) -> Sequence[Approval]:
        return sorted((each for each in self._visible() if each.run_id == run), key=_place)

    async def decide(self, approval: Approval) -> bool:
        tables = await self._transaction.writing()
        now = next((each for each in self._visible() if each.id == approval.id), None)
        if now is None or now.answer:
            return False
        tables.approvals[approval.id] = approval
        return True

    async def page(self, where: ApprovalFilter, *, limit: int, after: str | None) -> Page[Approval]:
        cursors = Cursors("approvals")
        start = cursors.read(after) if after is not None else None
        found = [
            each
            for each in self._visible()
            if where.run in (None, each.run_id)
            and where.decided in (None, each.answer is not None)
            and (where.decided is not False or not self._over(each))
            and (start is None or _place(each) < start)
        ]
        found.sort(key=_place, reverse=True)
        return cursors.page(found[: limit + 1], limit, _place)

    def _over(self, approval: Approval) -> bool:
        run = self._transaction.tables.durable.get(approval.run_id)
        return run is not None and run.ended_at is not None

    def _visible(self) -> list[Approval]:
        scope = self._transaction.scope
        return [
            each
            for each in self._transaction.ours(self._transaction.tables.approvals.values())
            if scope.administers
            or each.owner_id == scope.user_id
            or (scope.sees_all and each.approver == "reviewer")
        ]


def _place(approval: Approval) -> Position:
    return Position(approval.requested_at, approval.id)
