"""Commands about runs that go on from what others left."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.durable_forks import ForkRun, ResumeRun
from runtime.application.handlers.durable import again, durable_run
from runtime.application.services.durable.desk import RunDesk
from runtime.domain.entities.durable import DurableRun, Origin, new_order
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import CheckpointNotFound, InvalidValue, RunHasCompleted, RunNotEnded
from runtime.domain.repositories.checkpoints import CheckpointStore, Fork
from runtime.domain.repositories.durable import ToolLedger
from runtime.domain.services.states import GraphStates
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope


@dataclass(frozen=True)
class ResumeRunHandler:
    uow: UnitOfWorkFactory
    desk: RunDesk
    store: CheckpointStore
    states: GraphStates
    ledger: ToolLedger
    now: Callable[[], datetime]

    async def __call__(self, command: ResumeRun) -> DurableRun:
        """Without a checkpoint it begins anew, but what its tools have done is not done again.

        Raises RunNotFound, RunNotDurable, RunNotEnded, RunHasCompleted, TooManyQueuedRuns."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            run = await durable_run(work, command.id, "gone on with")
        if not run.status.final:
            raise RunNotEnded(run.id)
        if run.status is RunStatus.COMPLETED:
            raise RunHasCompleted(run.id)
        resumed = again(run, command.actor, self.now(), "resume")
        await self.desk.check_room(resumed.scope)
        newest = await self.store.find(run.id)
        if newest and self.states.stands_alone(newest):
            await self.store.copy(run.id, resumed.id, resumed.scope)
        await self.ledger.copy(run.id, resumed.id)
        return await self.desk.submit(resumed)


@dataclass(frozen=True)
class ForkRunHandler:
    uow: UnitOfWorkFactory
    desk: RunDesk
    store: CheckpointStore
    states: GraphStates
    now: Callable[[], datetime]

    async def __call__(self, command: ForkRun) -> DurableRun:
        """Raises RunNotFound, RunNotDurable, CheckpointNotFound, InvalidValue, StateUnreadable,
        TooManyQueuedRuns."""
        command.actor.require_scope(KeyScope.MODELS)
        if command.messages and command.values:
            raise InvalidValue(
                "Give either an input, which begins another turn, or values.", param="values"
            )
        async with self.uow(command.actor.scope) as work:
            run = await durable_run(work, command.id, "forked")
        checkpoint = await self.store.find(run.id, "", command.checkpoint_id)
        if checkpoint is None:
            raise CheckpointNotFound(command.checkpoint_id)
        if not self.states.stands_alone(checkpoint):
            raise InvalidValue(
                "The checkpoint holds what changed since an earlier one; fork that.",
                param="checkpoint_id",
            )
        writes = self.states.update(checkpoint, command.values or {})
        forked = self._forked(run, command)
        fork = Fork(
            source=run.id,
            checkpoint_id=checkpoint.id,
            target=forked.id,
            scope=forked.scope,
            begins="turn" if command.messages else "fork",
            versions=self.states.versions(checkpoint),
        )
        await self.desk.check_room(forked.scope)
        await self.store.fork(fork, writes)
        return await self.desk.submit(forked)

    def _forked(self, run: DurableRun, command: ForkRun) -> DurableRun:
        """What might have been is no part of the conversation that the run was a turn of."""
        forked = again(run, command.actor, self.now(), "fork")
        order = replace(new_order(forked, command.messages), session=None)
        return replace(forked, order=order, origin=Origin("fork", run.id, command.checkpoint_id))
