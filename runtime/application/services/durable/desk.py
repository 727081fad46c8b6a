"""Takes orders for durable runs, and ends them before their time."""

from dataclasses import dataclass

from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.ordering import earlier_id
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.responses import Response
from runtime.domain.errors import RunNotFound, TooManyQueuedRuns
from runtime.domain.events.runs import RunCancelled
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope


@dataclass
class RunDesk:
    uow: UnitOfWorkFactory
    dispatcher: RunDispatcher
    endings: Endings
    most_queued: int
    """Of one owner."""

    async def submit(self, run: DurableRun, response: Response | None = None) -> DurableRun:
        """On record once this returns: it will run, whatever happens. An order that is there
        already is taken as it is. Raises TooManyQueuedRuns, DatabaseUnavailable."""
        async with self.uow(run.scope) as work:
            if known := await _known(work, run):
                return known
            await self._check_room(work)
            if not await work.durable.add(run):
                return await work.durable.get(run.id)
            if response:
                await work.responses.add(response)
            await work.commit()
        await self.dispatcher.dispatch(run)
        return run

    async def check_room(self, scope: Scope) -> None:
        """To be asked before anything is copied for an order: nobody would remove that again.
        Raises TooManyQueuedRuns."""
        async with self.uow(scope) as work:
            await self._check_room(work)

    async def cancel(self, run: DurableRun) -> DurableRun:
        """At whatever process it runs. One that has ended stays as it is."""
        return run if run.status.final else await self.endings.close(run, RunCancelled())

    async def _check_room(self, work: UnitOfWork) -> None:
        if await work.durable.queued() >= self.most_queued:
            raise TooManyQueuedRuns(self.most_queued)


async def _known(work: UnitOfWork, run: DurableRun) -> DurableRun | None:
    """What the same request ordered before: its answer was lost, or its process killed."""
    earlier = earlier_id(run.created_at)
    for id in (run.id, earlier) if earlier else ():
        try:
            return await work.durable.get(id)
        except RunNotFound:
            continue
    return None
