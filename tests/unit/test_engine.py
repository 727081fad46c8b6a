"""How runs begin, go on and end, with instances that do as they are told."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.admission import Admission
from runtime.application.services.channel import AHEAD
from runtime.application.services.engine import Engine
from runtime.application.services.execution import Execution
from runtime.application.services.instances import InstanceCache
from runtime.application.services.keepers import RunKeeper
from runtime.application.services.recorder import RunRecorder
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import (
    DatabaseUnavailable,
    Draining,
    ExecutionFailed,
    FixedParameter,
    RunTimeout,
    Saturated,
    UnsupportedParameter,
    UpstreamFailed,
)
from runtime.domain.events.runs import (
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    StepFinished,
    TextDelta,
    ToolReturned,
    UsageReported,
)
from runtime.domain.repositories.runs import RunLog
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.unit_of_work import UnitOfWork
from runtime.domain.value_objects.chat import ChatRole, GenerationOptions, Message, Usage
from runtime.domain.value_objects.identity import LOCAL_ADMIN
from tests.contracts.samples import a_line, a_version
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_runs import Script, ScriptedExecutor


class ListedRuns(RunLog):
    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.away = False
        self.written = asyncio.Event()

    async def write(self, runs: Sequence[Run]) -> None:
        if self.away:
            raise DatabaseUnavailable
        self.runs += runs
        self.written.set()


class Bench:
    """An engine with everything around it."""

    def __init__(self, script: Script, *, run_timeout_s: float = 60, limit: int = 10) -> None:
        self.executor = ScriptedExecutor(script)
        self.now = 0.0
        self.log = ListedRuns()
        self.store = MemoryStore()
        self.instances = InstanceCache(self.executor, size=2, idle_s=60, clock=lambda: self.now)
        self.admission = Admission(limit, limit, limit)
        self.recorder = RunRecorder(self.log)
        self.engine = Engine(
            self.instances,
            self.admission,
            self.recorder,
            partial(memory_unit_of_work, self.store, Published()),
            lambda: datetime.now(UTC),
            run_timeout_s,
        )
        self.agent = a_version(a_line())

    async def start(
        self,
        agent: Agent | None = None,
        options: GenerationOptions | None = None,
        choices: int = 1,
        keepers: Sequence[RunKeeper] = (),
    ) -> Execution:
        command = ExecuteAgent(
            caller=LOCAL_ADMIN,
            model="support",
            messages=[Message(ChatRole.USER, "Hi")],
            options=options or GenerationOptions(),
            choices=choices,
        )
        return await self.engine.start(agent or self.agent, command, keepers)

    async def recorded(self) -> Run:
        await self.recorder.flush()
        return self.log.runs[-1]


async def says_hello(_: RunInput, emit: Emit) -> None:
    await emit(TextDelta("Hel"))
    await emit(TextDelta("lo"))
    await emit(UsageReported(Usage(3, 2), "demo"))


async def events_of(execution: Execution) -> list[RunEvent]:
    return [event async for _, events in execution.batches() for event in events]


async def test_a_run_begins_and_ends_with_one_terminal_event() -> None:
    bench = Bench(says_hello)
    events = await events_of(await bench.start())

    assert isinstance(events[0], RunStarted)
    assert events[-1] == RunCompleted("stop", Usage(3, 2))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel", "lo"]


async def test_an_answer_is_a_fold_over_the_same_events() -> None:
    (answer,) = await (await Bench(says_hello).start()).answers()

    assert (answer.text, answer.finish_reason, answer.usage) == ("Hello", "stop", Usage(3, 2))


async def test_choices_are_runs_of_their_own() -> None:
    bench = Bench(says_hello)
    answers = await (await bench.start(choices=3)).answers()
    await bench.recorder.flush()

    assert [answer.text for answer in answers] == ["Hello"] * 3
    assert len({run.id for run in bench.log.runs}) == 3
    assert len(bench.executor.built) == 1


async def test_a_refusal_before_the_first_output_is_raised_when_getting_ready() -> None:
    async def fails(_: RunInput, emit: Emit) -> None:
        await emit(StepFinished("1", "plan", "error", 1))
        raise UpstreamFailed("The provider failed.")

    execution = await Bench(fails).start()
    with pytest.raises(UpstreamFailed):
        await execution.ready(60)
    await execution.aclose()


async def test_nothing_is_lost_between_getting_ready_and_reading() -> None:
    go_on = asyncio.Event()

    async def halts(_: RunInput, emit: Emit) -> None:
        await emit(TextDelta("a"))
        await go_on.wait()
        await emit(TextDelta("b"))

    for choices in (1, 3):
        go_on.clear()
        execution = await Bench(halts).start(choices=choices)
        await execution.ready(60)
        go_on.set()
        texts = [e.text for e in await events_of(execution) if isinstance(e, TextDelta)]
        assert sorted(texts) == ["a"] * choices + ["b"] * choices


async def test_getting_ready_does_not_wait_for_ever() -> None:
    go_on = asyncio.Event()

    async def thinks(_: RunInput, emit: Emit) -> None:
        await go_on.wait()
        await emit(TextDelta("late"))

    execution = await Bench(thinks).start()
    await execution.ready(0.01)
    go_on.set()
    assert TextDelta("late") in await events_of(execution)


async def test_a_failure_after_output_is_the_last_event() -> None:
    async def breaks(_: RunInput, emit: Emit) -> None:
        await emit(TextDelta("Hel"))
        raise UpstreamFailed("It broke.")

    bench = Bench(breaks)
    events = await events_of(await bench.start())
    record = await bench.recorded()

    assert isinstance(events[-1], RunFailed)
    assert (record.status, record.error_code) == (RunStatus.FAILED, "upstream_error")


async def test_a_bug_in_a_template_is_reported_without_its_text() -> None:
    async def bug(_: RunInput, emit: Emit) -> None:
        raise ZeroDivisionError("password=hunter2")

    with pytest.raises(ExecutionFailed) as error:
        await (await Bench(bug).start()).answers()
    assert "hunter2" not in str(error.value)


async def test_a_template_s_own_time_out_is_not_the_run_s() -> None:
    async def impatient(_: RunInput, emit: Emit) -> None:
        raise TimeoutError

    with pytest.raises(ExecutionFailed):
        await (await Bench(impatient).start()).answers()


async def test_a_run_is_stopped_at_its_time_limit() -> None:
    async def never(_: RunInput, emit: Emit) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RunTimeout):
        await (await Bench(never, run_timeout_s=0.01).start()).answers()


async def test_closing_an_execution_cancels_its_run_and_frees_its_place() -> None:
    stopped = asyncio.Event()

    async def endless(_: RunInput, emit: Emit) -> None:
        try:
            await emit(TextDelta("a"))
            await asyncio.Event().wait()
        finally:
            stopped.set()

    bench = Bench(endless)
    execution = await bench.start()
    await execution.ready(60)
    await execution.aclose()

    assert stopped.is_set()
    assert bench.admission.running == 0
    assert (await bench.recorded()).status is RunStatus.CANCELLED


async def test_a_run_that_is_closed_before_its_first_step_is_over_too() -> None:
    bench = Bench(says_hello)
    execution = await bench.start()
    await execution.aclose()

    assert bench.admission.running == 0
    assert (await bench.recorded()).status is RunStatus.CANCELLED
    assert [type(event) for event in await events_of(execution)] == [RunCancelled]


async def test_a_slow_reader_holds_the_run_back() -> None:
    sent = 0

    async def floods(_: RunInput, emit: Emit) -> None:
        nonlocal sent
        for _i in range(AHEAD * 4):
            await emit(TextDelta("x"))
            sent += 1

    execution = await Bench(floods).start()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sent < AHEAD

    events = await events_of(execution)
    assert sum(isinstance(event, TextDelta) for event in events) == AHEAD * 4


async def test_a_full_process_refuses_at_once_and_recovers() -> None:
    bench = Bench(says_hello, limit=2)
    first = await bench.start(choices=2)
    with pytest.raises(Saturated):
        await bench.start()

    await first.answers()
    assert (await (await bench.start()).answers())[0].text == "Hello"


async def test_a_closed_door_says_that_the_runtime_drains() -> None:
    bench = Bench(says_hello)
    bench.admission.open = False
    with pytest.raises(Draining):
        await bench.start()


async def test_a_parameter_the_configuration_fixes_is_refused_by_name() -> None:
    bench = Bench(says_hello)
    bench.executor.fixed = GenerationOptions(temperature=0.2, max_tokens=50)

    for asked in (GenerationOptions(temperature=0.9), GenerationOptions(max_completion_tokens=9)):
        with pytest.raises(FixedParameter):
            await bench.start(options=asked)
    await (await bench.start(options=GenerationOptions(temperature=0.2))).answers()
    assert bench.admission.running == 0


async def test_a_parameter_the_template_can_not_honour_is_refused_by_name() -> None:
    bench = Bench(says_hello)
    bench.executor.unsupported = {"seed": "steps differ anyway."}
    with pytest.raises(UnsupportedParameter) as error:
        await bench.start(options=GenerationOptions(seed=1))
    assert error.value.param == "seed"


async def test_the_record_tells_steps_tools_usage_and_times() -> None:
    async def works(_: RunInput, emit: Emit) -> None:
        await emit(StepFinished("1", "plan", "success", 12.0, attempts=2))
        await emit(ToolReturned("c1", "calculator", "error", "no", 3.0))
        await says_hello(_, emit)
        await emit(UsageReported(Usage(10, 1), "openai/x", estimated=True))

    bench = Bench(works)
    await (await bench.start()).answers()
    record = await bench.recorded()

    assert (record.steps[0].name, record.steps[0].attempts) == ("plan", 2)
    assert (record.tools[0].name, record.tools[0].status) == ("calculator", "error")
    assert record.usage == Usage(13, 3)
    assert record.models == ("demo", "openai/x")
    assert record.usage_estimated
    assert record.first_token_ms is not None
    assert record.first_token_ms <= record.duration_ms


async def test_an_instance_is_built_once_however_many_ask_at_once() -> None:
    bench = Bench(says_hello)
    bench.executor.gate = asyncio.Event()
    starting = [asyncio.create_task(bench.start()) for _ in range(5)]
    await asyncio.sleep(0)
    starting[0].cancel()
    bench.executor.gate.set()
    results = await asyncio.gather(*starting, return_exceptions=True)

    assert sum(isinstance(result, Execution) for result in results) == 4
    assert len(bench.executor.built) == 1
    for result in results:
        if isinstance(result, Execution):
            await result.answers()
    assert bench.admission.running == 0


async def test_a_template_loaded_anew_serves_new_runs_while_old_ones_go_on() -> None:
    go_on = asyncio.Event()

    async def waits(_: RunInput, emit: Emit) -> None:
        await emit(TextDelta("a"))
        await go_on.wait()
        await emit(TextDelta("b"))

    bench = Bench(waits)
    running = await bench.start()
    await running.ready(60)
    bench.executor.loaded = 2
    later = await bench.start()
    bench.instances.drop(bench.agent.id)
    assert [instance.closed for instance in bench.executor.built] == [0, 0]

    go_on.set()
    assert (await running.answers())[0].text == "ab"
    await later.answers()
    await bench.instances.aclose()
    assert [instance.closed for instance in bench.executor.built] == [1, 1]


async def test_idle_and_surplus_instances_are_closed() -> None:
    bench = Bench(says_hello)
    agents = [a_version(a_line(slug)) for slug in ("a", "b", "c")]
    for agent in agents:
        await (await bench.start(agent)).answers()
    assert len(bench.instances) == 2

    bench.now = 100
    bench.instances.sweep()
    await bench.instances.aclose()
    assert [instance.closed for instance in bench.executor.built] == [1, 1, 1]


async def test_records_wait_for_a_database_that_is_away() -> None:
    bench = Bench(says_hello)
    bench.log.away = True
    await (await bench.start()).answers()
    with pytest.raises(DatabaseUnavailable):
        await bench.recorder.flush()

    bench.log.away = False
    assert (await bench.recorded()).status is RunStatus.COMPLETED


async def test_a_record_that_no_database_takes_costs_only_itself() -> None:
    class Picky(ListedRuns):
        async def write(self, runs: Sequence[Run]) -> None:
            if any(run.session_id == "bad" for run in runs):
                raise ValueError("no")
            await super().write(runs)

    bench = Bench(says_hello)
    log = Picky()
    recorder = RunRecorder(log)
    recorder.start()
    await (await bench.start()).answers()
    good = await bench.recorded()
    recorder.add(replace(good, session_id="bad"))
    recorder.add(good)
    async with asyncio.timeout(5):
        await log.written.wait()
    await recorder.stop()

    assert log.runs == [good]


class Notes(RunKeeper):
    def __init__(self, error: Exception | None = None) -> None:
        self.kept: list[tuple[RunStatus, list[str]]] = []
        self.released = 0
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._error = error

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        await self.may_write.wait()
        if self._error:
            raise self._error
        self.kept.append((run.status, [e.text for e in events if isinstance(e, TextDelta)]))

    async def release(self) -> None:
        self.released += 1


async def test_what_a_run_leaves_is_kept_before_its_reader_learns_of_the_end() -> None:
    notes = Notes()
    notes.may_write.clear()
    execution = await Bench(says_hello).start(keepers=[notes])
    batches = execution.batches()
    first = (await anext(batches))[1]
    rest = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.01)
    waiting = not rest.done()
    notes.may_write.set()
    last = (await rest)[1]

    assert isinstance(first[0], RunStarted)
    assert waiting
    assert isinstance(last[-1], RunCompleted)
    assert notes.kept == [(RunStatus.COMPLETED, ["Hel", "lo"])]
    assert notes.released == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(DatabaseUnavailable(), "database_unavailable"), (ValueError("no"), "execution_error")],
)
async def test_an_answer_that_cannot_be_kept_is_no_answer(error: Exception, code: str) -> None:
    notes = Notes(error)
    bench = Bench(says_hello)
    end = (await events_of(await bench.start(keepers=[notes])))[-1]

    assert isinstance(end, RunFailed)
    assert end.error.code == code
    assert (await bench.recorded()).status is RunStatus.FAILED
    assert notes.released == 1


@pytest.mark.parametrize("begun", [True, False])
async def test_a_cancelled_run_is_kept_as_cancelled(begun: bool) -> None:
    async def never_ends(_: RunInput, emit: Emit) -> None:
        await emit(TextDelta("Hel"))
        await asyncio.Event().wait()

    notes = Notes()
    execution = await Bench(never_ends).start(keepers=[notes])
    if begun:
        await asyncio.sleep(0.01)
    execution.cancel()
    events = await events_of(execution)

    assert isinstance(events[-1], RunCancelled)
    assert notes.kept == [(RunStatus.CANCELLED, ["Hel"] if begun else [])]
    assert notes.released == 1


async def test_a_client_that_leaves_does_not_stop_what_is_being_kept() -> None:
    notes = Notes()
    notes.may_write.clear()
    execution = await Bench(says_hello).start(keepers=[notes])
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(execution.aclose())
    await asyncio.sleep(0.01)
    notes.may_write.set()
    await closing

    assert notes.kept == [(RunStatus.COMPLETED, ["Hel", "lo"])]


async def test_keepers_of_a_run_that_is_refused_are_released() -> None:
    notes = Notes()
    with pytest.raises(Saturated):
        await Bench(says_hello, limit=0).start(keepers=[notes])

    assert notes.released == 1


class Clinging(Notes):
    async def release(self) -> None:
        await super().release()
        raise ValueError("it does not let go")


async def test_a_keeper_that_cannot_be_released_holds_up_neither_reader_nor_others() -> None:
    clinging, notes = Clinging(), Notes()
    execution = await Bench(says_hello).start(keepers=[clinging, notes])
    async with asyncio.timeout(2):
        events = await events_of(execution)

    assert isinstance(events[-1], RunCompleted)
    assert (clinging.released, notes.released) == (1, 1)
