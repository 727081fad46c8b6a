from dataclasses import dataclass

from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.runs import Run
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class RunQueries:
    """Reads see every run that has ended: what still waits to be written is written first."""

    uow: UnitOfWorkFactory
    recorder: RunRecorder

    async def get(self, actor: Principal, id: RunId) -> Run:
        """Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            return await work.runs.get(id)

    async def page(
        self, actor: Principal, where: RunFilter, *, limit: int, after: str | None
    ) -> Page[Run]:
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            return await work.runs.page(where, limit=limit, after=after)
