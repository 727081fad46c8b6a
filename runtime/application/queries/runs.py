from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime.application.services.durable.logs import Reader, RunLogs
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import Run
from runtime.domain.errors import RunNotDurable, RunNotFound
from runtime.domain.events.runs import (
    RunEvent,
    RunResumed,
    StepFinished,
    StepStarted,
    TextDelta,
)
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


@dataclass(frozen=True, slots=True)
class SeenStep:
    """What is not known of a run that was not durable is None."""

    id: str | None
    name: str
    status: Literal["running", "success", "error"]
    attempt: int = 1
    """The one that began it."""
    duration_ms: float | None = None
    attempts: int = 1
    """How often its code was tried in the end."""


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
        seen = await self._found(actor, id)
        if not (seen.record and seen.durable):
            return seen
        events = effective(await self.logs.all_of(id, seen.durable.scope))
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        # Without a log, which goes with a deleted response, nobody knows what it said.
        return replace(seen, output=said if events else None)

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

    async def steps(self, actor: Principal, id: RunId) -> Sequence[SeenStep]:
        """In the order in which they began. Raises RunNotFound."""
        seen = await self._found(actor, id)
        if seen.durable:
            events = await self.logs.all_of(id, seen.durable.scope)
            return _steps(events, over=seen.durable.status.final)
        return [
            SeenStep(
                id=None,
                name=step.name,
                status="success" if step.status == "success" else "error",
                duration_ms=step.duration_ms,
                attempts=step.attempts,
            )
            for step in (seen.record.steps if seen.record else ())
        ]

    async def events(self, actor: Principal, id: RunId, *, after: int, limit: int) -> EventPage:
        """Of its log, so far. Raises RunNotFound, RunNotDurable."""
        run = await self._logged(actor, id)
        async with self.uow(run.scope) as work:
            found = list(await work.run_events.read(id, after=after, limit=limit + 1))
        return EventPage(list(enumerate(found[:limit], after + 1)), len(found) > limit)

    async def read(self, actor: Principal, id: RunId, *, after: int) -> Reader | None:
        """Its log from there to its end, which may not be written yet; None where it is, and
        nothing follows. Raises as `events`."""
        run = await self._logged(actor, id)
        if after and run.status.final:
            async with self.uow(run.scope) as work:
                if after >= await work.run_events.last(id):
                    return None
        return self.logs.read(id, run.scope, after)

    async def _found(self, actor: Principal, id: RunId) -> SeenRun:
        """Raises RunNotFound."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            durable = await _durable(work, id)
            going_on = durable is not None and not durable.status.final
            return SeenRun(None if going_on else await work.runs.get(id), durable)

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


def _steps(events: Sequence[RunEvent], *, over: bool) -> list[SeenStep]:
    """`over`: the run has ended, and what of it had not is cut off."""
    steps: dict[str, SeenStep] = {}
    attempt = 1
    for event in events:
        match event:
            case RunResumed():
                attempt = event.attempt
            case StepStarted(step_id=id, name=name):
                steps[id] = SeenStep(id, name, "error" if over else "running", attempt)
            case StepFinished(step_id=id) if id in steps:
                steps[id] = replace(
                    steps[id],
                    status=event.status,
                    duration_ms=event.duration_ms,
                    attempts=event.attempts,
                )
    return list(steps.values())
