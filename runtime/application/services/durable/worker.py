"""Carries out attempts that this process has claimed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.services.durable.attempt import Attempt
from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.logs import RunLogs, all_events
from runtime.application.services.durable.part import Paused
from runtime.application.services.execution import Execution
from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import (
    BudgetExhausted,
    DatabaseUnavailable,
    DomainError,
    ExecutionFailed,
    RunNotFound,
    SessionBusy,
    TooManyAttempts,
)
from runtime.domain.errors.kinds import RateLimited, Unavailable
from runtime.domain.events.runs import RunFailed, RunResumed
from runtime.domain.repositories.durable import Ticket
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.services.durability import AttemptLost, CallLog, Decision, Durability
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.ids import RunId, WorkerId

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 100
"""Beyond it a run is taken for one that kills whatever process has it."""
NOT_STORED = "What the run made can't be stored; the log has the cause under its id."
NOT_YET = (Unavailable, RateLimited, SessionBusy)
"""Refusals that leave the run in the queue."""


@dataclass
class Worker:
    id: WorkerId
    uow: UnitOfWorkFactory
    logs: RunLogs
    endings: Endings
    calls: Callable[[DurableRun], CallLog]
    execute: ExecuteAgentHandler
    dispatcher: RunDispatcher
    active: dict[RunId, Attempt] = field(default_factory=dict)
    beginning: set[RunId] = field(default_factory=set)
    _draining: bool = False

    async def begin(self, ticket: Ticket) -> None:
        """To the attempt's end. Raises nothing but CancelledError."""
        self.beginning.add(ticket.id)
        try:
            attempt = await self._prepared(ticket)
            paused = await self._carried_out(attempt)
        except (AttemptLost, RunNotFound):
            return
        except DatabaseUnavailable:
            # The caretaker gives back what this process has and does not run.
            logger.warning("run %s could not be begun: the database is away", ticket.id)
            return
        except Exception:
            logger.exception("run %s could not be begun", ticket.id)
            await self._give_up(ticket)
            return
        finally:
            self.beginning.discard(ticket.id)
            # The next attempt may have begun here while this one was still ending.
            if (last := self.active.get(ticket.id)) and last.attempt == ticket.attempt:
                del self.active[ticket.id]
        if paused and paused.why == "handed_over":
            await self.dispatcher.dispatch(ticket)

    def has(self, ticket: Ticket) -> bool:
        return ticket.id in self.beginning or ticket.id in self.active

    def lost(self, run: RunId) -> None:
        """It was ended, or is another's."""
        if attempt := self.active.get(run):
            attempt.lost()

    def drain(self) -> None:
        """Every attempt stops at its next boundary, and so does what is being begun."""
        self._draining = True
        for attempt in self.active.values():
            attempt.stop()

    async def _prepared(self, ticket: Ticket) -> Attempt:
        async with self.uow(ticket.scope) as work:
            run = await work.durable.get(ticket.id)
            if run.attempt != ticket.attempt:
                raise AttemptLost
            # Nobody has said or asked anything before the first attempt.
            began = run.attempt > 1
            asked = await work.approvals.of_run(ticket.id) if began else ()
            before = await all_events(work, run.id) if began else []
        decisions = {each.key: each.answer for each in asked if each.answer}
        return Attempt(self.logs, self.endings, run, before, self._durability(run, decisions))

    def _durability(self, run: DurableRun, decisions: Mapping[str, Decision]) -> Durability:
        return Durability(
            attempt=run.attempt,
            calls=self.calls(run),
            decisions=decisions,
            stopping=self._draining,
        )

    async def _carried_out(self, attempt: Attempt) -> Paused | None:
        self.active[attempt.id] = attempt
        made = sum(isinstance(event, RunResumed) for event in attempt.before) + 1
        if made > MOST_ATTEMPTS:
            await self._failed(attempt, TooManyAttempts(MOST_ATTEMPTS))
            return None
        try:
            execution = await self._started(attempt)
        except BudgetExhausted as error:
            await self._failed(attempt, error)
            return None
        except NOT_YET as error:
            return await self._later(attempt, error)
        except DomainError as error:
            await self._failed(attempt, error)
            return None
        await attempt.follow(execution)
        if attempt.broken:
            await self._failed(attempt, ExecutionFailed(NOT_STORED))
            return None
        return attempt.paused

    async def _started(self, attempt: Attempt) -> Execution:
        run = attempt.run
        order = run.order
        command = ExecuteAgent(
            caller=order.caller,
            model=run.model if order.direct else run.agent_id,
            direct=order.direct,
            messages=order.messages,
            options=order.options,
            session=SessionRef(name=order.session) if order.session else None,
            items=order.items,
            metadata=order.metadata,
        )
        return await self.execute.attempt(command, run.model, attempt)

    async def _later(self, attempt: Attempt, error: DomainError) -> Paused:
        logger.info("run %s begins later: %s", attempt.id, error)
        return await attempt.postpone(error.retry_after_s or 1.0)

    async def _failed(self, attempt: Attempt, error: DomainError) -> None:
        run = attempt.run
        await attempt.patiently(lambda: self._closed(run, error))

    async def _closed(self, run: DurableRun, error: DomainError) -> None:
        await self.endings.close(run, RunFailed(error))

    async def _give_up(self, ticket: Ticket) -> None:
        """What can't even be read would be tried for ever."""
        why = ExecutionFailed("The run could not be begun; the log has the cause under its id.")
        try:
            async with self.uow(ticket.scope) as work:
                run = await work.durable.get(ticket.id)
            await self.endings.close(run, RunFailed(why))
        except Exception:
            logger.exception("run %s can't be ended either", ticket.id)
            await asyncio.sleep(0)
