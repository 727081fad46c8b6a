"""What the monitors make of runs and calls, and how many label values they keep."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Literal

import pytest
from prometheus_client import generate_latest

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus, ToolRecord
from runtime.domain.errors import DomainError, Saturated, UpstreamFailed, UpstreamTimeout
from runtime.domain.events.runs import TextDelta, ToolCalled, ToolReturned, UsageReported
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.services.monitor import (
    CallEnd,
    CallWatch,
    Monitor,
    RunWatch,
    Unwatched,
    UnwatchedCall,
    UnwatchedRun,
)
from runtime.domain.value_objects.chat import (
    NO_USAGE,
    ChatRole,
    GenerationOptions,
    Message,
    Usage,
)
from runtime.domain.value_objects.ids import RunId, new_run_id
from runtime.infrastructure.monitoring.prometheus import OTHER, Bounded, PrometheusMonitor
from runtime.infrastructure.monitoring.several import Monitors
from tests.contracts.samples import a_line, a_run, a_version
from tests.fakes_models import ModelsOn
from tests.scrape import Scrape
from tests.unit.test_engine import Bench


class _Call(UnwatchedCall):
    def __init__(self, told: list[object], headers: Mapping[str, str]) -> None:
        self._told = told
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def ended(self, end: CallEnd) -> None:
        self._told.append(("call", end.outcome, end.retries, end.usage))


class Notes(Monitor, RunWatch):
    """Writes down what it is told."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.told: list[object] = []
        self._headers = headers or {}

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        self.told.append(("run", agent.slug.value))
        return self

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        return _Call(self.told, self._headers)

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        return _Call(self.told, self._headers)

    def fell_back(self, provider: str, model: str, error: DomainError) -> None:
        self.told.append(("fell back", f"{provider}/{model}", error.code))

    def refused(self, agent: Agent, error: DomainError) -> None:
        self.told.append(("refused", error.code))

    def tool_called(self, call_id: str, name: str) -> None:
        self.told.append(("called", call_id, name))

    def tool_returned(self, call_id: str, status: Literal["success", "error"]) -> None:
        self.told.append(("returned", call_id, status))

    def ended(self, run: Run) -> None:
        self.told.append(("ended", run.status))


def scrape(monitor: PrometheusMonitor) -> Scrape:
    return Scrape.of(generate_latest(monitor.registry).decode())


def test_a_label_takes_a_bounded_number_of_values_and_keeps_the_first() -> None:
    bounded = Bounded(2)
    assert [bounded(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_an_attempt_that_pauses_is_no_run_that_ended() -> None:
    monitor = PrometheusMonitor()
    for status in (RunStatus.QUEUED, RunStatus.WAITING, RunStatus.COMPLETED):
        watch = monitor.run(new_run_id(), a_version(a_line("a")))
        watch.ended(a_run(status=status))

    found = scrape(monitor)
    assert found.sum("agent_runtime_runs_total", agent="a") == 1
    assert found.sum("agent_runtime_runs_total", status="completed") == 1


def test_agents_beyond_the_bound_are_counted_together() -> None:
    monitor = PrometheusMonitor(most_values=2)
    for slug in ("a", "b", "c", "d", "a"):
        agent = a_version(a_line(slug))
        monitor.run(new_run_id(), agent).ended(a_run())
        monitor.refused(agent, Saturated("runs", 1))

    found = scrape(monitor)
    runs = {agent: found.sum("agent_runtime_runs_total", agent=agent) for agent in "abcd"}
    assert runs == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert found.sum("agent_runtime_runs_total", agent=OTHER) == 2
    assert found.sum("agent_runtime_refusals_total", agent=OTHER) == 2


def test_models_and_tools_beyond_the_bound_are_counted_together() -> None:
    monitor = PrometheusMonitor(most_values=1)
    for name in ("x", "y"):
        call = monitor.model_call("openai", name, GenerationOptions(), stream=True)
        call.ended(CallEnd("success", 1.0, usage=Usage(10, 5, cached_tokens=4, reasoning_tokens=2)))
    agent = a_version(a_line())
    tools = (ToolRecord("t1", "success", 1), ToolRecord("t2", "error", 1))
    monitor.run(new_run_id(), agent).ended(a_run(tools=tools))

    found = scrape(monitor)
    tokens = "agent_runtime_tokens_total"
    assert found.values(tokens, "model") == {"openai/x", OTHER}
    kinds = {"input": 10, "output": 5, "cached": 4, "reasoning": 2}
    for kind, count in kinds.items():
        assert found.sum(tokens, model=OTHER, kind=kind) == count
    assert found.sum("ai_tool_calls_total", tool_name="t1", status="success") == 1
    assert found.sum("ai_tool_calls_total", tool_name=OTHER, status="error") == 1


def test_a_failed_run_is_counted_with_its_code_and_a_cancelled_one_as_such() -> None:
    monitor = PrometheusMonitor()
    agent = a_version(a_line())
    for run in (
        a_run(status=RunStatus.FAILED, error_code="timeout", first_token_ms=None),
        a_run(status=RunStatus.CANCELLED),
    ):
        monitor.run(run.id, agent).ended(run)

    found = scrape(monitor)
    runs = "agent_runtime_runs_total"
    assert found.sum(runs, agent="support", status="failed", error="timeout") == 1
    assert found.sum(runs, agent="support", status="cancelled", error="") == 1
    assert found.sum("agent_requests_total", status="cancelled") == 1
    assert found.sum("agent_runtime_time_to_first_token_seconds_count") == 1


async def test_the_engine_tells_of_runs_tools_and_refusals() -> None:
    async def works(_: RunInput, emit: Emit) -> None:
        await emit(ToolCalled("c1", "calculator", "{}"))
        await emit(TextDelta("a"))
        await emit(ToolReturned("c1", "calculator", "error", "no", 3.0))

    notes = Notes()
    bench = Bench(works, limit=1)
    bench.engine.monitor = notes
    execution = await bench.start()
    with pytest.raises(Saturated):
        await bench.start()
    await execution.answers()

    assert notes.told == [
        ("run", "support"),
        ("refused", "saturated"),
        ("called", "c1", "calculator"),
        ("returned", "c1", "error"),
        ("ended", RunStatus.COMPLETED),
    ]


async def test_what_a_monitor_binds_holds_for_its_run_and_for_no_other() -> None:
    bound: ContextVar[str] = ContextVar("bound", default="nothing")
    seen: list[tuple[str, str]] = []

    class Binds(Unwatched):
        def run(self, id: RunId, agent: Agent) -> RunWatch:
            bound.set(id)
            return Ends(id)

    class Ends(UnwatchedRun):
        def __init__(self, id: RunId) -> None:
            self._id = id

        def ended(self, run: Run) -> None:
            seen.append((self._id, bound.get()))

    async def looks(input: RunInput, emit: Emit) -> None:
        seen.append((input.run_id, bound.get()))

    bench = Bench(looks)
    bench.engine.monitor = Binds()
    await (await bench.start(choices=2)).answers()

    assert len(seen) == 4
    assert all(id == value for id, value in seen)
    assert bound.get() == "nothing"


class Flaky:
    """A provider that fails once, then does what it is told."""

    name = "flaky"
    default_model = "m"
    formats: frozenset[str] = frozenset()

    def __init__(self, *then: ModelEvent | Exception) -> None:
        self._then = then
        self.calls: list[ModelCall] = []

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        self.calls.append(call)
        if len(self.calls) == 1:
            raise UpstreamFailed("Not yet.")
        for step in self._then:
            if isinstance(step, Exception):
                raise step
            yield step

    async def aclose(self) -> None: ...


HELLO = ModelCall(None, [Message(ChatRole.USER, "Hello")])
USAGE = Usage(3, 2)


def watched(provider: Flaky, notes: Notes) -> ModelsOn:
    return ModelsOn([provider], "flaky", backoff_s=0, monitor=notes)


async def test_the_model_service_tells_of_a_call_with_its_retries_and_usage() -> None:
    notes = Notes({"traceparent": "00-1"})
    provider = Flaky(TextDelta("a"), UsageReported(USAGE, "m"), ModelFinished("stop", "m"))
    async for _ in watched(provider, notes).stream(HELLO):
        pass

    assert notes.told == [("call", "success", 1, USAGE)]
    assert [call.headers for call in provider.calls] == [{"traceparent": "00-1"}] * 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(UpstreamTimeout("Late."), "upstream_timeout"), (ZeroDivisionError(), "internal_error")],
)
async def test_a_call_that_breaks_ends_with_the_code_of_its_error(
    error: Exception, outcome: str
) -> None:
    notes = Notes()
    with pytest.raises(type(error)):
        async for _ in watched(Flaky(TextDelta("a"), error), notes).stream(HELLO):
            pass

    assert [told[1] for told in notes.told if isinstance(told, tuple)] == [outcome]


async def test_a_call_that_is_left_is_cancelled() -> None:
    notes = Notes()
    service = watched(Flaky(TextDelta("a"), TextDelta("b")), notes)
    async with aclosing(service.stream(HELLO)) as events:
        await anext(events)

    assert notes.told == [("call", "cancelled", 1, NO_USAGE)]


def test_several_monitors_are_told_alike_and_their_headers_joined() -> None:
    one, two = Notes({"a": "1"}), Notes({"b": "2"})
    both = Monitors([one, two])
    agent = a_version(a_line())
    watch = both.run(new_run_id(), agent)
    watch.tool_called("c", "t")
    watch.tool_returned("c", "success")
    watch.ended(a_run())
    both.refused(agent, Saturated("runs", 1))
    call = both.model_call("p", "m", GenerationOptions(), stream=False)
    call.ended(CallEnd("success", 1.0))

    assert one.told == two.told
    assert len(one.told) == 6
    assert call.headers == {"a": "1", "b": "2"}
