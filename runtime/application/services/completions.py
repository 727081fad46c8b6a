from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.engine import RunKeeper
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.events.runs import RunCompleted, RunEvent
from runtime.domain.unit_of_work import UnitOfWork
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import FinishReason
from runtime.domain.value_objects.ids import RunId, completion_id, made_at


class CompletionKeeper(RunKeeper):
    """Keeps an answer when the last of its choices ends; not one of which a choice failed."""

    def __init__(self, agent: Agent, command: ExecuteAgent) -> None:
        self._agent = agent
        self._command = command
        self._answers: dict[RunId, Answer] = {}

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        if run.status is not RunStatus.COMPLETED:
            return
        end = RunCompleted(cast(FinishReason, run.finish_reason))
        self._answers[run.id] = replace(Answer.of([*events, end]), events=())
        if len(self._answers) == self._command.choices:
            await work.completions.add(self._completion(run), self._command.messages)

    async def release(self) -> None:
        return

    def _completion(self, run: Run) -> ChatCompletion:
        in_order = sorted(self._answers)  # Ids are in the order in which the runs began.
        id = completion_id(in_order[0])
        return ChatCompletion(
            id=id,
            project_id=run.project_id,
            owner_id=run.owner_id,
            model=run.model,
            fingerprint=self._agent.spec.fingerprint,
            created_at=made_at(id),
            labels=self._command.labels or {},
            choices=[self._answers[each] for each in in_order],
        )
