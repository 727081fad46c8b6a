from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.domain.entities.feedback import Feedback
from runtime.domain.repositories.feedback import FeedbackRepository
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.repositories.base import storable

if TYPE_CHECKING:
    from tests.fakes import MemoryTransaction

Opinion = tuple[str, RunId, str]


class MemoryFeedbackRepository(FeedbackRepository):
    def __init__(self, transaction: "MemoryTransaction") -> None:
        self._transaction = transaction

    async def put(self, given: Feedback) -> None:
        scope = self._transaction.scope
        if given.project_id != scope.project_id or given.owner_id != scope.user_id:
            raise ValueError(f"an opinion of {given.owner_id} in a unit of somebody else")
        storable(given.comment or "")
        tables = await self._transaction.writing()
        tables.feedback[given.project_id, given.run_id, given.owner_id] = given

    async def of_run(self, id: RunId) -> Sequence[Feedback]:
        scope = self._transaction.scope
        found = [
            each
            for each in self._transaction.ours(self._transaction.tables.feedback.values())
            if each.run_id == id and (scope.administers or each.owner_id == scope.user_id)
        ]
        return sorted(found, key=lambda each: (each.at, each.owner_id))
