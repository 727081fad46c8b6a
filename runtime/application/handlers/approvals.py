"""A person's word on what a run waits for: one transaction, and then the run may go on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.approvals import DecideApproval
from runtime.application.services.auditing import approval_entry
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import (
    ApprovalChanged,
    ApprovalIsDecided,
    ApprovalNotFound,
    ArgumentsRefused,
    RunNotWaiting,
)
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.services.signals import RunSignals, Signal
from runtime.domain.services.tools import ToolService
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.tool_arguments import canonical


@dataclass(frozen=True)
class DecideApprovalHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    tools: ToolService
    dispatcher: RunDispatcher
    signals: RunSignals

    async def __call__(self, command: DecideApproval) -> Approval:
        """The same answer by the same person twice is as good as once.

        Raises ApprovalNotFound, Forbidden, InvalidValue, ArgumentsRefused, ApprovalChanged,
        ApprovalIsDecided, RunNotWaiting.
        """
        async with self.uow(command.actor.scope) as work:
            approval = await work.approvals.get(command.id)
        if approval.run_id != command.run_id:
            raise ApprovalNotFound(command.id)
        approval.require_decider(command.actor)
        if command.arguments_hash not in (None, approval.arguments_hash):
            raise ApprovalChanged(approval.id)
        decided = self._decided(approval, command)
        async with self.uow(approval.scope) as work:
            waits = await work.durable.waits(approval.run_id)
            before = await work.approvals.get(approval.id)
            if before.answer:
                return _repeated(before, decided)
            if not waits:
                raise RunNotWaiting(approval.run_id)
            run = await self._write(work, decided, command)
            await work.commit()
        self.signals.tell([Signal("log", approval.run_id)])
        if run:
            await self.dispatcher.dispatch(run)
        return decided

    def _decided(self, approval: Approval, command: DecideApproval) -> Approval:
        answer = command.answer
        if answer.arguments is not None:
            answer = replace(answer, arguments=canonical(answer.arguments))
        decided = approval.decided(answer, command.actor.user_id, self.now())
        if answer.arguments is not None:
            problem = self.tools.problem(approval.tool, answer.arguments)
            if problem:
                raise ArgumentsRefused(problem)
        return decided

    async def _write(
        self, work: UnitOfWork, decided: Approval, command: DecideApproval
    ) -> DurableRun | None:
        """The run, when it has nothing more to wait for."""
        id = decided.run_id
        await work.approvals.decide(decided)
        last = await work.run_events.last(id)
        await work.run_events.append(id, last, [decided.decision_event])
        run = await work.durable.get(id)
        await work.audit.add(approval_entry(decided, run, command.actor))
        if any(each.answer is None for each in await work.approvals.of_run(id)):
            return None
        await work.durable.wake(id)
        return await work.durable.get(id)


def _repeated(before: Approval, now: Approval) -> Approval:
    if before.answer == now.answer:
        return before
    raise ApprovalIsDecided(before.id)
