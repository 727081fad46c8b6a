"""Runs agents: admit, lease an instance, run it in a task of its own, record how it ended."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.admission import Admission
from runtime.application.services.channel import RunChannel
from runtime.application.services.durable.part import DurablePart, Paused
from runtime.application.services.durable.replay import Replay
from runtime.application.services.execution import Execution
from runtime.application.services.instances import InstanceCache, Lease
from runtime.application.services.journal import RunJournal
from runtime.application.services.keepers import LoneKeeper, RunKeeper, released
from runtime.application.services.metering import RunMeter
from runtime.application.services.quotas import Grant, Quotas
from runtime.application.services.recorder import RunRecorder
from runtime.application.services.rulebook import unpriced
from runtime.application.services.structured_output import ShapedRun, StructuredOutput
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.errors import (
    DatabaseUnavailable,
    DomainError,
    ExecutionFailed,
    FixedParameter,
    RunTimeout,
    UnsupportedParameter,
)
from runtime.domain.events.runs import (
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunResumed,
    RunStarted,
)
from runtime.domain.services.durability import AttemptLost, HandedOver, RunSuspended
from runtime.domain.services.executor import AgentInstance, RunInput
from runtime.domain.services.metering import METER
from runtime.domain.services.monitor import UNWATCHED, Monitor
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import FinishReason, GenerationOptions, estimated_tokens
from runtime.domain.value_objects.ids import RunId, new_run_id

logger = logging.getLogger(__name__)

End = RunCompleted | RunFailed | RunCancelled | Paused


class ActiveRun:
    """One run while it goes on. Its task ends by itself; `cancel` makes it end soon."""

    def __init__(
        self,
        engine: "Engine",
        agent: Agent,
        lease: Lease,
        command: ExecuteAgent,
        keepers: Sequence[RunKeeper],
        shaped: ShapedRun | None,
        grant: Grant | None,
        part: DurablePart | None = None,
    ) -> None:
        self.id: RunId = part.id if part else new_run_id()
        self._part = part
        self.channel = RunChannel()
        self._put = part.put if part else self.channel.put
        context = copy_context()
        self._watch = context.run(engine.monitor.run, self.id, agent)
        price_of = engine.quotas.price_of(agent.project_id) if engine.quotas else unpriced
        self.journal = RunJournal(self.id, agent, command, engine.now, self._watch, price_of)
        self._grant = grant
        purses = grant.purses if grant else ()
        self._meter = RunMeter(purses, price_of, self.journal.see, self._stop)
        context.run(METER.set, self._meter)
        self._stopped_by: DomainError | None = None
        self._engine = engine
        self.agent = agent
        self.caller = command.caller
        self.lease = lease
        self._runner: AgentInstance | ShapedRun = shaped or lease.instance
        self._input = RunInput(
            run_id=self.id,
            messages=command.messages,
            options=command.options,
            user_id=command.caller.user_id,
            project_id=command.caller.project_id,
            claims=command.caller.claims,
            stream=command.stream,
            metadata=command.metadata,
            recall=command.recall,
            durable=part.durability if part else None,
        )
        self._finish_reason: FinishReason = "stop"
        self._keepers = keepers
        self._events: list[RunEvent] = list(part.before) if part else []
        self.journal.recall(self._events)
        self.record: Run | None = None
        self.task = asyncio.create_task(self._run(), name=self.id, context=context)
        self.task.add_done_callback(self._ended, context=context)
        engine.active.add(self)

    def cancel(self) -> None:
        self.task.cancel()

    def _stop(self, error: DomainError) -> None:
        """From within: whatever the agent's code does with the exception, the run ends."""
        if self._stopped_by is None:
            self._stopped_by = error
            self.task.cancel()

    async def _emit(self, event: RunEvent) -> None:
        if type(event) is RunCompleted:
            self._finish_reason = event.finish_reason
            return
        self.journal.see(event)
        if self._keepers:
            self._events.append(event)
        await self._put(event)

    def _ended(self, task: asyncio.Task[End]) -> None:
        """A callback, because a task that is cancelled before its first step never runs."""
        if task.cancelled() and (self._keepers or self._grant):
            self.task = asyncio.create_task(self._kept(self._cut_short()), name=self.id)
            self.task.add_done_callback(self._ended)
            return
        end = self._cut_short() if task.cancelled() else task.result()
        self._engine.ended(self, admitted=self._part is None)
        if isinstance(end, Paused):
            self._watch.ended(self.journal.record(end))
            self.channel.close(None)
            return
        if self.record is None:
            self.record = self.journal.record(end)
            if self._part is None:
                self._engine.recorder.add(self.record)
        self._watch.ended(self.record)
        self.channel.close(end)

    def _cut_short(self) -> End:
        if self._stopped_by:
            return RunFailed(self._stopped_by)
        return Paused("handed_over") if self._part else RunCancelled()

    async def _run(self) -> End:
        end = await self._execute()
        if self._stopped_by:
            end = RunFailed(self._stopped_by)
        return await self._kept(end) if self._keepers or self._grant else end

    async def _kept(self, end: End) -> End:
        """The end, once it is stored. Too late to cancel: what is to be kept is kept."""
        writing = asyncio.create_task(self._settled(end))
        while not writing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(writing)
        return writing.result()

    async def _settled(self, end: End) -> End:
        """A caller who asks again at once finds the place free and the tokens counted."""
        if self._keepers:
            end = await (self._pause(end) if isinstance(end, Paused) else self._keep(end))
        if self._grant and isinstance(end, Paused):
            await self._settle_grant(self.journal.usage.total_tokens)
        elif self._grant:
            self.record = self.journal.record(end)
            if self._part is None:
                await self._engine.recorder.write(self.record, now=bool(self._grant.purses))
            self._meter.settle(self.record)
            await self._settle_grant(self.record.usage.total_tokens)
        return end

    async def _settle_grant(self, tokens: int) -> None:
        assert self._grant
        try:
            await self._grant.settle(tokens - self.journal.recalled.total_tokens)
        # The reader waits for the end; a place that is not given back frees itself.
        except Exception:
            logger.exception("run %s ended, but its limits were not settled", self.id)

    async def _pause(self, pause: Paused) -> End:
        assert self._part
        try:
            return await self._part.pause(pause)
        # Whoever looks after runs that stand still takes it up again.
        except Exception:
            logger.exception("run %s pauses, but that could not be written", self.id)
            return pause
        finally:
            await released(self._keepers)

    async def _keep(self, end: End) -> End:
        try:
            write = partial(self._write, self.journal.record(end))
            await (self._part.patiently(write) if self._part else write())
        except AttemptLost:
            return Paused("lost")
        except DomainError as error:
            return RunFailed(error)
        except Exception:
            logger.exception("run %s ended, but what it leaves could not be kept", self.id)
            return RunFailed(ExecutionFailed("The answer could not be stored; the log says why."))
        finally:
            await released(self._keepers)
        return end

    async def _write(self, run: Run) -> None:
        first, events = self._keepers[0], self._events
        if len(self._keepers) == 1 and isinstance(first, LoneKeeper):
            await first.keep_alone(run, events)
            return
        still = self._part.still() if self._part else nullcontext()
        async with still, self._engine.uow(self.caller.scope) as work:
            for keeper in self._keepers:
                await keeper.keep(work, run, events)
            await work.commit()

    async def _execute(self) -> End:
        limit_s = self._engine.run_timeout_s
        timer = asyncio.timeout(limit_s)
        try:
            await self._put(self._first_event())
            async with timer:
                await self._run_instance()
        except asyncio.CancelledError:
            return self._cut_short()
        except RunSuspended as suspended:
            return Paused("suspended", suspended.requests)
        except HandedOver:
            return Paused("handed_over")
        except AttemptLost:
            return Paused("lost")
        except DomainError as error:
            if self._part and isinstance(error, DatabaseUnavailable):
                return Paused("later")
            return RunFailed(error)
        # A template's code may raise anything; the caller gets a typed error, the log the cause.
        except Exception:
            if timer.expired():
                return RunFailed(RunTimeout(limit_s))
            logger.exception("run %s of agent %s failed", self.id, self.agent.id)
            return RunFailed(
                ExecutionFailed(
                    "The agent's code failed; the log has the cause under this run's id."
                )
            )
        return RunCompleted(self._finish_reason, self.journal.usage)

    def _first_event(self) -> RunEvent:
        resumes = self._part and self._part.before
        return RunResumed(self._part.attempt) if self._part and resumes else RunStarted(self.id)

    async def _run_instance(self) -> None:
        if not (self._part and self._part.before):
            await self._runner.run(self._input, self._emit)
            return
        replay = Replay(self._part.before, self._part.durability, self._emit)
        await self._runner.run(self._input, replay.emit)
        await replay.close()


@dataclass
class Engine:
    instances: InstanceCache
    admission: Admission
    recorder: RunRecorder
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]
    run_timeout_s: float
    monitor: Monitor = UNWATCHED
    structured: StructuredOutput | None = None
    quotas: Quotas | None = None
    active: set[ActiveRun] = field(default_factory=set)

    async def start(
        self,
        agent: Agent,
        command: ExecuteAgent,
        keepers: Sequence[RunKeeper] = (),
        part: DurablePart | None = None,
    ) -> Execution:
        """The keepers are every choice's; they are released here too when no run starts. `part`:
        an attempt of a durable run, which has a place already.

        Raises Saturated, RateLimited, Draining, UnsupportedParameter, FixedParameter,
        InvalidJsonSchema, what `Quotas.admit` and what building an instance raises.
        """
        try:
            return await self._start(agent, command, keepers, part)
        except BaseException as error:
            await released(keepers)
            if isinstance(error, DomainError):
                self.monitor.refused(agent, error)
            raise

    async def check(self, agent: Agent, command: ExecuteAgent) -> None:
        """That a run which is to begin later can: raises what `start` raises for its options and
        limits, and counts it as a request."""
        if self.quotas:
            tokens = partial(expected_tokens, command)
            grant = await self.quotas.admit(command.caller, agent.line_id, tokens=tokens)
            if grant:
                await grant.settle(0)
        lease = await self.instances.lease(agent)
        try:
            self._shaped(agent, command.options, lease.instance)
        finally:
            self.instances.release(lease)

    async def _start(
        self,
        agent: Agent,
        command: ExecuteAgent,
        keepers: Sequence[RunKeeper],
        part: DurablePart | None,
    ) -> Execution:
        caller = command.caller
        if part is None:
            self.admission.enter(agent, caller, command.choices)
        leases: list[Lease] = []
        grant: Grant | None = None
        try:
            if self.quotas:
                estimate = partial(expected_tokens, command)
                grant = await self.quotas.admit(
                    caller,
                    agent.line_id,
                    tokens=estimate,
                    runs=command.choices,
                    counted=part is not None,
                )
            for _ in range(command.choices):
                leases.append(await self.instances.lease(agent))
            shaped = [self._shaped(agent, command.options, lease.instance) for lease in leases]
        except BaseException:
            if part is None:
                self.admission.leave(agent, caller, command.choices)
            for lease in leases:
                self.instances.release(lease)
            if grant:
                await asyncio.shield(grant.settle(0, command.choices))
            raise
        runs = [
            ActiveRun(self, agent, lease, command, keepers, each, grant, part)
            for lease, each in zip(leases, shaped, strict=True)
        ]
        return Execution(agent, runs)

    def _shaped(
        self, agent: Agent, options: GenerationOptions, instance: AgentInstance
    ) -> ShapedRun | None:
        check_options(options, instance)
        return self.structured.asked(agent, instance, options) if self.structured else None

    def cancel_all(self) -> None:
        """Their readers are told that the runtime drains."""
        for run in self.active:
            run.cancel()

    def ended(self, run: ActiveRun, *, admitted: bool = True) -> None:
        self.active.discard(run)
        if admitted:
            self.admission.leave(run.agent, run.caller)
        self.instances.release(run.lease)


def expected_tokens(command: ExecuteAgent) -> int:
    """Of one run: what is asked, and the longest answer where the caller bounds it."""
    asked = sum(message.characters for message in command.messages)
    return estimated_tokens(asked) + (command.options.token_limit or 0)


def check_options(options: GenerationOptions, instance: AgentInstance) -> None:
    """What is asked for is honoured or refused by name, never dropped."""
    unsupported: Mapping[str, str] = instance.unsupported_options
    fixed = dict(instance.fixed_options.given())
    if not (unsupported or fixed):
        return
    for name, value in options.given():
        if name in unsupported:
            raise UnsupportedParameter(name, unsupported[name])
        key = "max_tokens" if name == "max_completion_tokens" else name
        if key in fixed and fixed[key] != value:
            raise FixedParameter(name, fixed[key])
