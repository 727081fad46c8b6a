"""Runs agents: admit, lease an instance, run it in a task of its own, record how it ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Protocol

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.admission import Admission
from runtime.application.services.channel import RunChannel
from runtime.application.services.instances import InstanceCache, Lease
from runtime.application.services.journal import RunJournal
from runtime.application.services.metering import RunMeter
from runtime.application.services.quotas import Grant, Quotas
from runtime.application.services.recorder import RunRecorder
from runtime.application.services.rulebook import unpriced
from runtime.application.services.structured_output import ShapedRun, StructuredOutput
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.errors import (
    DomainError,
    Draining,
    ExecutionFailed,
    FixedParameter,
    RunTimeout,
    UnsupportedParameter,
)
from runtime.domain.events.runs import (
    OUTPUT,
    TERMINAL,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
)
from runtime.domain.services.executor import AgentInstance, RunInput
from runtime.domain.services.metering import METER
from runtime.domain.services.monitor import UNWATCHED, Monitor
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import FinishReason, GenerationOptions, estimated_tokens
from runtime.domain.value_objects.ids import RunId, SessionId, new_run_id

logger = logging.getLogger(__name__)

End = RunCompleted | RunFailed | RunCancelled
Indexed = tuple[int, Sequence[RunEvent]]
"""Events of one choice, in order."""


class RunKeeper(Protocol):
    """What a run leaves behind besides its record."""

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        """Write how it ended, in a unit of work that all keepers of the run share.

        `events` is everything that happened, without a terminal event: `run` tells the end. The
        reader learns of the end after the commit; where a keeper raises, the run has failed.
        """

    async def release(self) -> None:
        """Called once, after `keep`, whatever became of the run or of what was to be kept."""


class LoneKeeper(RunKeeper):
    """One that has a cheaper way to write where nobody else has anything to."""

    async def keep_alone(self, run: Run, events: Sequence[RunEvent]) -> None:
        """As `keep`, in a transaction of its own."""


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
    ) -> None:
        self.id: RunId = new_run_id()
        self.channel = RunChannel()
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
        )
        self._finish_reason: FinishReason = "stop"
        self._keepers = keepers
        self._events: list[RunEvent] = []
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
        await self.channel.put(event)

    def _ended(self, task: asyncio.Task[End]) -> None:
        """A callback, because a task that is cancelled before its first step never runs."""
        if task.cancelled() and (self._keepers or self._grant):
            self.task = asyncio.create_task(self._kept(self._cut_short()), name=self.id)
            self.task.add_done_callback(self._ended)
            return
        end = self._cut_short() if task.cancelled() else task.result()
        self._engine.ended(self)
        if self.record is None:
            self.record = self.journal.record(end)
            self._engine.recorder.add(self.record)
        self._watch.ended(self.record)
        self.channel.close(end)

    def _cut_short(self) -> End:
        return RunFailed(self._stopped_by) if self._stopped_by else RunCancelled()

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
            end = await self._keep(end)
        if self._grant:
            self.record = self.journal.record(end)
            await self._engine.recorder.write(self.record, now=bool(self._grant.purses))
            self._meter.settle(self.record)
            await self._grant.settle(self.record.usage.total_tokens)
        return end

    async def _keep(self, end: End) -> End:
        try:
            await self._write(self.journal.record(end))
        except DomainError as error:
            return RunFailed(error)
        except Exception:
            logger.exception("run %s ended, but what it leaves could not be kept", self.id)
            return RunFailed(ExecutionFailed("The answer could not be stored; the log says why."))
        finally:
            for keeper in self._keepers:
                await keeper.release()
        return end

    async def _write(self, run: Run) -> None:
        first = self._keepers[0]
        if len(self._keepers) == 1 and isinstance(first, LoneKeeper):
            await first.keep_alone(run, self._events)
            return
        async with self._engine.uow(self.caller.scope) as work:
            for keeper in self._keepers:
                await keeper.keep(work, run, self._events)
            await work.commit()

    async def _execute(self) -> End:
        limit_s = self._engine.run_timeout_s
        timer = asyncio.timeout(limit_s)
        try:
            await self.channel.put(RunStarted(self.id))
            async with timer:
                await self._runner.run(self._input, self._emit)
        except asyncio.CancelledError:
            return self._cut_short()
        except DomainError as error:
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


class Execution:
    """The answer to one ExecuteAgent: as many runs as choices, read by one door.

    Close it, or read it to its end.
    """

    def __init__(self, agent: Agent, runs: Sequence[ActiveRun]) -> None:
        self.agent = agent
        self.session_id: SessionId | None = None
        """The conversation that it is a turn of."""
        self._runs = runs
        self._reader = self._read()
        self._early: list[Indexed] = []
        self._pending: asyncio.Task[Indexed | None] | None = None

    @property
    def id(self) -> RunId:
        return self._runs[0].id

    @property
    def records(self) -> Sequence[Run]:
        """Of the runs that have ended."""
        return [run.record for run in self._runs if run.record]

    async def ready(self, within_s: float) -> None:
        """Wait for the first output, but no longer than `within_s`: until then a failure is
        still a refusal. Raises what the run failed with."""
        until = monotonic() + within_s
        while (left_s := until - monotonic()) > 0:
            self._pending = self._pending or asyncio.create_task(self._step())
            await asyncio.wait({self._pending}, timeout=left_s)
            if not self._pending.done():
                return
            batch = self._pending.result()
            self._pending = None
            if batch is None:
                return
            self._early.append(batch)
            _raise_failure(batch[1])
            if any(isinstance(event, OUTPUT + TERMINAL) for event in batch[1]):
                return

    async def batches(self) -> AsyncGenerator[Indexed]:
        """Everything that happens, as (choice, events); every choice ends with a terminal event."""
        while self._early:
            yield self._early.pop(0)
        if self._pending:
            batch, self._pending = await self._pending, None
            if batch is None:
                return
            yield batch
        async for batch in self._reader:
            yield batch

    async def answers(self) -> Sequence[Answer]:
        """The choices, once all have ended. Raises what the first failing one failed with."""
        events: list[list[RunEvent]] = [[] for _ in self._runs]
        async for index, batch in self.batches():
            _raise_failure(batch)
            events[index] += batch
        return [Answer.of(each) for each in events]

    def cancel(self) -> None:
        """Every choice that still goes on ends soon, with RunCancelled for its reader."""
        for run in self._runs:
            if not run.task.done():
                run.cancel()

    async def aclose(self) -> None:
        """Cancel what still goes on, and wait until it has stopped."""
        self.cancel()
        if self._pending:
            self._pending.cancel()
        await asyncio.gather(*(run.task for run in self._runs), return_exceptions=True)

    async def _step(self) -> Indexed | None:
        return await anext(self._reader, None)

    async def _read(self) -> AsyncGenerator[Indexed]:
        if len(self._runs) == 1:
            channel = self._runs[0].channel
            while events := await channel.read():
                yield 0, events
            return
        reads = {
            asyncio.create_task(run.channel.read()): index for index, run in enumerate(self._runs)
        }
        try:
            while reads:
                done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index = reads.pop(task)
                    if events := task.result():
                        reads[asyncio.create_task(self._runs[index].channel.read())] = index
                        yield index, events
        finally:
            for task in reads:
                task.cancel()


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
        self, agent: Agent, command: ExecuteAgent, keepers: Sequence[RunKeeper] = ()
    ) -> Execution:
        """The keepers are every choice's; they are released here too when no run starts.

        Raises Saturated, RateLimited, Draining, UnsupportedParameter, FixedParameter,
        InvalidJsonSchema, what `Quotas.admit` and what building an instance raises.
        """
        try:
            return await self._start(agent, command, keepers)
        except BaseException as error:
            for keeper in keepers:
                await keeper.release()
            if isinstance(error, DomainError):
                self.monitor.refused(agent, error)
            raise

    async def _start(
        self, agent: Agent, command: ExecuteAgent, keepers: Sequence[RunKeeper]
    ) -> Execution:
        caller = command.caller
        self.admission.enter(agent, caller, command.choices)
        leases: list[Lease] = []
        grant: Grant | None = None
        try:
            if self.quotas:
                estimate = partial(expected_tokens, command)
                grant = await self.quotas.admit(
                    caller, agent.line_id, tokens=estimate, runs=command.choices
                )
            for _ in range(command.choices):
                leases.append(await self.instances.lease(agent))
            shaped = [self._shaped(agent, command.options, lease.instance) for lease in leases]
        except BaseException:
            self.admission.leave(agent, caller, command.choices)
            for lease in leases:
                self.instances.release(lease)
            if grant:
                await asyncio.shield(grant.settle(0, command.choices))
            raise
        runs = [
            ActiveRun(self, agent, lease, command, keepers, each, grant)
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

    def ended(self, run: ActiveRun) -> None:
        self.active.discard(run)
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


def _raise_failure(events: Sequence[RunEvent]) -> None:
    last = events[-1]
    if isinstance(last, RunFailed):
        raise last.error
    if isinstance(last, RunCancelled):
        raise Draining
