from collections.abc import Sequence
from dataclasses import dataclass

from runtime.application.services.durable.logs import Reader, RunLogs
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import Run
from runtime.domain.errors import RunNotDurable, RunNotFound
from runtime.domain.events.runs import RunEvent, TextDelta
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.run_logs import effective


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run as it stands: one of the two is there, or both."""

    record: Run | None
    """Once it has ended."""
    durable: DurableRun | None
    """Where it outlives its caller."""
    output: str | None = None
    """The text of its answer, of a durable run that has ended and was asked for by its id."""


@dataclass(frozen=True, slots=True)
class EventPage:
    events: Sequence[tuple[int, RunEvent]]
    has_more: bool


@dataclass(frozen=True)
class RunQueries:
    """Reads see every run that has ended: what still waits to be written is written first."""

    uow: UnitOfWorkFactory
    recorder: RunRecorder
    logs: RunLogs

    async def get(self, actor: Principal, id: RunId) -> Run:
        """The record of one that has ended. Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            return await work.runs.get(id)

    async def seen(self, actor: Principal, id: RunId) -> SeenRun:
        """Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            durable = await _durable(work, id)
            if durable is None:
                return SeenRun(await work.runs.get(id), None)
            if not durable.status.final:
                return SeenRun(None, durable)
            record = await work.runs.get(id)
        events = effective(await self.logs.all_of(id, durable.scope))
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        return SeenRun(record, durable, said)

    async def page(
        self, actor: Principal, where: RunFilter, *, limit: int, after: str | None
    ) -> Page[SeenRun]:
        """Newest first, those included that have not ended."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            page = await work.runs.page(where, limit=limit, after=after)
            durable = await work.durable.some([run.id for run in page.items])
        found = [
            SeenRun(run if isinstance(run, Run) else None, durable.get(run.id))
            for run in page.items
        ]
        return Page(found, page.next_cursor)

    async def events(self, actor: Principal, id: RunId, *, after: int, limit: int) -> EventPage:
        """Of its log, so far. Raises RunNotFound, RunNotDurable."""
        run = await self._logged(actor, id)
        async with self.uow(run.scope) as work:
            found = list(await work.run_events.read(id, after=after, limit=limit + 1))
        return EventPage(list(enumerate(found[:limit], after + 1)), len(found) > limit)

    async def read(self, actor: Principal, id: RunId, *, after: int) -> Reader:
        """Its log from there to its end, which may not be written yet. Raises as `events`."""
        run = await self._logged(actor, id)
        return self.logs.read(id, run.scope, after)

    async def _logged(self, actor: Principal, id: RunId) -> DurableRun:
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            durable = await _durable(work, id)
            if durable is None:
                await work.runs.get(id)
                raise RunNotDurable(id, "read event by event")
        return durable


async def _durable(work: UnitOfWork, id: RunId) -> DurableRun | None:
    try:
        return await work.durable.get(id)
    except RunNotFound:
        return None
