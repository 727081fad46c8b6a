"""How durable runs end and pause: everything that belongs to it in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtime.application.services.durable.logs import all_events
from runtime.application.services.durable.part import AlreadyKept, Paused
from runtime.application.services.durable.records import record_of
from runtime.application.services.journal import outcome
from runtime.application.services.rulebook import RuleBook
from runtime.application.services.webhooks.events import run_event, waiting_event
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.durable import DurableRun, RunProblem
from runtime.domain.entities.responses import End, end_of, open_items, response_id
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.events.runs import RunEvent, RunFailed, TextDelta
from runtime.domain.services.durability import ApprovalRequest, AttemptLost
from runtime.domain.services.signals import RunSignals, Signal
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.items import items_of
from runtime.domain.value_objects.run_logs import effective


@dataclass
class Endings:
    uow: UnitOfWorkFactory
    rulebook: RuleBook
    now: Callable[[], datetime]
    signals: RunSignals

    async def write(
        self,
        work: UnitOfWork,
        run: DurableRun,
        record: Run,
        after: int,
        rest: Sequence[RunEvent],
        events: Sequence[RunEvent],
    ) -> None:
        """By its own attempt. Raises AttemptLost, AlreadyKept.

        `rest` is what the log has not got, with the end; `events` all that happened.
        """
        end = end_of(record)
        final = _final(run, record.status, record.ended_at, end)
        if not await work.durable.finish(final, attempt=run.attempt):
            now = await work.durable.get(run.id)
            ours = (now.status, now.ended_at) == (record.status, record.ended_at)
            raise AlreadyKept if ours else AttemptLost
        await work.run_events.append(run.id, after, rest)
        await self._leave(work, run, record, end, events)

    async def close(self, run: DurableRun, end: End) -> DurableRun:
        """From outside: whatever attempt goes on, it has lost. A run that has ended stays so."""
        async with self.uow(run.scope) as work:
            at, price_of = self.now(), self.rulebook.price_of(run.project_id)
            if not await work.durable.finish(_final(run, outcome(end)[0], at, end)):
                return await work.durable.get(run.id)
            events = await all_events(work, run.id)
            await work.run_events.append(run.id, len(events), [end])
            record = record_of(run, events, end, at, price_of)
            await self._leave(work, run, record, end, events)
            closed = await work.durable.get(run.id)
            await work.commit()
        self.signals.tell([Signal("control", run.id)])
        return closed

    async def pause(
        self,
        run: DurableRun,
        attempt: int,
        after: int,
        rest: Sequence[RunEvent],
        pause: Paused,
        later: timedelta | None,
    ) -> None:
        """Raises AttemptLost, DatabaseUnavailable."""
        async with self.uow(run.scope) as work:
            asked = await self._asked(work, run, attempt, pause.requests)
            if not pause.requests:
                due = self.now() + later if later else None
                if not await work.durable.release(run.id, attempt, due):
                    raise AttemptLost
            events = [*rest, *(each.request_event for each in asked)]
            await work.run_events.append(run.id, after, events)
            await work.commit()
        self.signals.tell([Signal("log", run.id)])

    async def _asked(
        self, work: UnitOfWork, run: DurableRun, attempt: int, requests: Sequence[ApprovalRequest]
    ) -> Sequence[Approval]:
        """What a person is to answer from now on; none where all is answered already."""
        if not requests:
            return ()
        if not await work.durable.suspend(run.id, attempt):
            raise AttemptLost
        at = self.now()
        new = await work.approvals.add_all([Approval.asked(run, each, at) for each in requests])
        if all(each.answer for each in await work.approvals.of_run(run.id)):
            await work.durable.wake(run.id)
        else:
            await work.webhooks.queue(waiting_event(run, at))
        return new

    async def _leave(
        self,
        work: UnitOfWork,
        run: DurableRun,
        record: Run,
        end: End,
        events: Sequence[RunEvent],
    ) -> None:
        await work.runs.record(record)
        counted = effective(events)
        said = "".join(event.text for event in counted if isinstance(event, TextDelta))
        await work.webhooks.queue(run_event(record, run, said))
        if run.order.response:
            response = await work.responses.get(response_id(run.id))
            output = items_of(run.id, events, open_items(end))
            await work.responses.finish(response.ended(end, output, record.ended_at))


def _final(run: DurableRun, status: RunStatus, at: datetime, end: End) -> DurableRun:
    problem = RunProblem(end.error.code, str(end.error)) if isinstance(end, RunFailed) else None
    return run.ended(status, at, problem)
