from dataclasses import dataclass

from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.runs import Run
from runtime.domain.entities.tool_calls import RecordedCall
from runtime.domain.errors import RunNotFound
from runtime.domain.repositories.approvals import ApprovalFilter
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True)
class ApprovalQueries:
    uow: UnitOfWorkFactory
    recorder: RunRecorder

    async def page(
        self, actor: Principal, where: ApprovalFilter, *, limit: int, after: str | None
    ) -> Page[Approval]:
        """What the actor may see of it: their own, a reviewer's to decide, an admin's project."""
        actor.require_scope(KeyScope.RUNS_READ)
        async with self.uow(actor.scope) as work:
            return await work.approvals.page(where, limit=limit, after=after)

    async def of_run(
        self, actor: Principal, run: RunId, *, limit: int, after: str | None
    ) -> Page[Approval]:
        """Raises RunNotFound. A reviewer sees what is theirs to decide of any run."""
        page = await self.page(actor, ApprovalFilter(run=run), limit=limit, after=after)
        if not page.items:
            await self.recorder.flush()
            async with self.uow(actor.scope) as work:
                if not await _is_durable(work, run):
                    await work.runs.get(run)
        return page

    async def tool_calls(
        self, actor: Principal, run: RunId, *, limit: int, after: str | None
    ) -> Page[RecordedCall]:
        """Raises RunNotFound. Of a run that is not durable only what is in its record, in one
        page."""
        actor.require_scope(KeyScope.RUNS_READ)
        await self.recorder.flush()
        async with self.uow(actor.scope) as work:
            page = await work.tool_calls.of_run(run, limit=limit, after=after)
            if page.items or await _is_durable(work, run):
                return page
            return Page(_of_record(await work.runs.get(run)), None)


async def _is_durable(work: UnitOfWork, run: RunId) -> bool:
    try:
        await work.durable.get(run)
    except RunNotFound:
        return False
    return True


def _of_record(run: Run) -> list[RecordedCall]:
    return [
        RecordedCall(
            run_id=run.id,
            call_id="",
            step="",
            name=tool.name,
            arguments="",
            status="error" if tool.status == "error" else "success",
            output=None,
            attempt=1,
            started_at=run.started_at,
            duration_ms=tool.duration_ms,
        )
        for tool in run.tools
    ]
