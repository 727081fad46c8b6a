from collections.abc import Sequence
from dataclasses import dataclass

from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.feedback import Feedback
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True)
class FeedbackQueries:
    uow: UnitOfWorkFactory
    recorder: RunRecorder

    async def of_run(self, actor: Principal, id: RunId) -> Sequence[Feedback]:
        """Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            await work.runs.get(id)
            return await work.feedback.of_run(id)
