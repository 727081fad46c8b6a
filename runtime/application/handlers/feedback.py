from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runtime.application.commands.feedback import GiveFeedback
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.feedback import Feedback
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope


@dataclass(frozen=True)
class GiveFeedbackHandler:
    """Who may call models may say what they think of the answers."""

    uow: UnitOfWorkFactory
    recorder: RunRecorder
    now: Callable[[], datetime]

    async def __call__(self, command: GiveFeedback) -> Feedback:
        """Raises RunNotFound, also for a run that goes on still, and InvalidValue."""
        caller = command.caller
        caller.require_scope(KeyScope.MODELS)
        feedback = Feedback(
            run_id=command.run_id,
            project_id=caller.project_id,
            owner_id=caller.user_id,
            rating=command.rating,
            comment=command.comment or None,
            at=self.now(),
        )
        await self.recorder.flush()
        async with self.uow(caller.scope) as work:
            await work.runs.get(command.run_id)
            await work.feedback.put(feedback)
            await work.commit()
        return feedback
