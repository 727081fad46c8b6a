"""Calls of tools over several attempts of one durable run."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as langchain_tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from runtime.application.services.durable.calls import AttemptCalls
from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import ApprovalNeedsDurableRun, DatabaseUnavailable, ExecutionFailed
from runtime.domain.events.runs import RunEvent, TextDelta, ToolCalled, ToolReturned
from runtime.domain.repositories.checkpoints import Progress
from runtime.domain.repositories.durable import LedgerCall
from runtime.domain.services.durability import (
    ApprovalRequest,
    AttemptLost,
    Decision,
    Durability,
    RunSuspended,
)
from runtime.domain.services.executor import RunInput
from runtime.domain.services.tools import ToolOutcome, ToolTraits
from runtime.domain.value_objects.chat import ToolCall
from runtime.domain.value_objects.identity import LOCAL_USER, Principal, Scope
from runtime.domain.value_objects.ids import AgentId, LineId, ProjectId, RunId
from runtime.infrastructure.frameworks.langgraph.templates.react import ReactTemplate
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.tools import MAX_OUTPUT, CurrentCall, call_tool, tool_call
from tests.fakes import MemoryStore
from tests.fakes_checkpoints import MemoryCheckpointStore
from tests.fakes_models import WHEN, ScriptedModels, ScriptedTools, asks, calls, made
from tests.fakes_tools import MemoryToolLedger

RUN = RunId("run_1")
SCOPE = Scope(ProjectId("default"), LOCAL_USER)
ASKING = ToolTraits(approval="owner")


class Crash(Exception):
    """The process is gone, as far as anybody can tell afterwards."""


class Flaky(MemoryToolLedger):
    """Can't be reached for the first `fails` calls."""

    fails = 0

    async def enter(self, call: LedgerCall, found: object = ()) -> object:  # type: ignore[override]
        self._fail()
        return await super().enter(call, found)  # type: ignore[arg-type]

    async def finish(self, call: LedgerCall, outcome: ToolOutcome, duration_ms: float) -> None:
        self._fail()
        await super().finish(call, outcome, duration_ms)

    def _fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise DatabaseUnavailable


@dataclass
class Runs:
    """One durable run, an attempt at a time."""

    store: MemoryStore = field(default_factory=MemoryStore)
    events: list[RunEvent] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    attempt: int = 0

    def __post_init__(self) -> None:
        self.ledger = Flaky(self.store)
        self.checkpoints = MemoryCheckpointStore(self.store)

    def next_attempt(self) -> AttemptCalls:
        self.attempt += 1
        self.store.tables.durable[RUN] = DurableRun(
            id=RUN,
            project_id=SCOPE.project_id,
            owner_id=SCOPE.user_id,
            agent_id=AgentId("agent_1"),
            line_id=LineId("line_1"),
            model="bot",
            order=RunOrder(caller=Principal(LOCAL_USER), messages=()),
            status=RunStatus.RUNNING,
            created_at=WHEN,
            attempt=self.attempt,
        )
        return AttemptCalls(self.ledger, RUN, SCOPE, self.attempt, lambda: WHEN, patience_s=2)

    async def emit(self, event: RunEvent) -> None:
        self.events.append(event)

    async def run(self, agent: BaseAgentTemplate) -> None:
        self.events = []
        agent.services = replace(agent.services, checkpoints=self.checkpoints)
        calls = self.next_attempt()
        durable = Durability(self.attempt, calls, flush=self._flush, decisions=self.decisions)
        input = replace(asks("Go"), run_id=RUN, durable=durable)
        await agent.run(input, self.emit)

    async def _flush(self, progress: Callable[[], Progress] | None = None) -> None:
        if progress:
            await self.checkpoints.save(RUN, self.attempt, progress())

    async def asked(self, agent: BaseAgentTemplate) -> list[ApprovalRequest]:
        with pytest.raises(RunSuspended) as suspended:
            await self.run(agent)
        return list(suspended.value.requests)

    @property
    def results(self) -> list[tuple[str, str, str]]:
        returned = [event for event in self.events if isinstance(event, ToolReturned)]
        return [(event.call_id, event.status, event.output) for event in returned]


class Caller(BaseAgentTemplate):
    """Asks for what `wants` says; a template that keeps nothing between attempts."""

    template_id, template_name = "caller", "Caller"
    wants: tuple[ToolCall, ...] = ()
    side_by_side = False

    class Config(BaseModel):
        tools: list[str] = []

    async def stream_execute(self, input: RunInput) -> AsyncGenerator[RunEvent]:
        work = [self.call_tool(call, timeout_s=1) for call in self.wants]
        if self.side_by_side:
            outcomes = await asyncio.gather(*work)
        else:
            outcomes = [await each for each in work]
        yield TextDelta(" ".join(outcome.output for outcome in outcomes))


def caller(tools: ScriptedTools, *wants: ToolCall) -> Caller:
    agent = made(Caller, ScriptedModels(), tools)
    agent.wants = wants or (ToolCall("call_a", "pay", '{"amount": 5}'),)
    return agent


def paying(result: str | Exception = "paid", traits: ToolTraits = ToolTraits()) -> ScriptedTools:  # noqa: B008
    tools = ScriptedTools(pay=result)
    tools.said_of["pay"] = traits
    return tools


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("what was waited for did not happen")


async def crash_in_flight(runs: Runs, tools: ScriptedTools, *wants: ToolCall) -> None:
    """The tool was called, and nobody heard what came of it."""
    waiting = ScriptedTools(**{**tools.results, "pay": asyncio.Event()})
    waiting.said_of = tools.said_of
    task = asyncio.create_task(runs.run(caller(waiting, *wants)))
    await until(lambda: bool(waiting.called))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_finished_call_is_not_made_again_by_the_next_attempt() -> None:
    runs, tools = Runs(), paying()
    await runs.run(caller(tools))
    first = runs.results

    await runs.run(caller(tools, ToolCall("call_other", "pay", '{"amount":5}')))
    assert tools.called == [("pay", '{"amount": 5}')]
    assert runs.results == first == [("call_a", "success", "paid")]


async def test_a_call_of_something_else_is_made() -> None:
    runs, tools = Runs(), paying()
    await runs.run(caller(tools))

    await runs.run(caller(tools, ToolCall("call_a", "pay", '{"amount": 6}')))
    assert len(tools.called) == 2
    assert runs.results == [("call_a~2", "success", "paid")]


async def test_a_model_that_repeats_an_id_makes_two_calls() -> None:
    runs, tools = Runs(), paying()
    same = ToolCall("call_0", "pay", "{}")
    await runs.run(caller(tools, same, same))
    assert [id for id, _, _ in runs.results] == ["call_0", "call_0~2"]

    await runs.run(caller(tools, same, same, same))
    assert len(tools.called) == 3
    assert [id for id, _, _ in runs.results] == ["call_0", "call_0~2", "call_0~3"]


async def test_two_identical_calls_at_the_same_time_are_two() -> None:
    runs, tools = Runs(), paying()
    agent = caller(tools, ToolCall("call_a", "pay", "{}"), ToolCall("call_b", "pay", "{}"))
    agent.side_by_side = True
    await runs.run(agent)

    await runs.run(agent)
    assert len(tools.called) == 2
    assert sorted(id for id, _, _ in runs.results) == ["call_a", "call_b"]


@pytest.mark.parametrize("traits", [ToolTraits(read_only=True), ToolTraits(idempotent=True)])
async def test_what_may_be_repeated_is_made_again_with_the_same_key(traits: ToolTraits) -> None:
    runs, seen = Runs(), list[CurrentCall]()

    class Noting(ScriptedTools):
        async def call(self, name: str, arguments: str) -> ToolOutcome:
            seen.append(tool_call())
            return await super().call(name, arguments)

    async def attempt(number: int, result: str | asyncio.Event) -> None:
        tools = Noting(pay=result)
        tools.said_of["pay"] = traits
        wish = ToolCall(f"call_{number}", "pay", "{}")
        task = asyncio.create_task(runs.run(caller(tools, wish)))
        await until(lambda: len(seen) > number)
        if number == 0:
            task.cancel()
        await asyncio.wait([task])

    await attempt(0, asyncio.Event())
    await attempt(1, "paid")
    assert [call.idempotency_key for call in seen] == ["run_1:call_0", "run_1:call_0"]
    assert [call.repeated for call in seen] == [False, True]
    assert runs.results == [("call_0", "success", "paid")]


async def test_what_may_not_be_repeated_waits_for_a_person() -> None:
    runs, tools = Runs(), paying()
    await crash_in_flight(runs, tools)

    (request,) = await runs.asked(caller(tools))
    assert request == ApprovalRequest(
        kind="outcome_unknown",
        key="call_a:1",
        call_id="call_a",
        tool="pay",
        arguments='{"amount": 5}',
    )
    assert (tools.called, runs.events) == ([], [])


@pytest.mark.parametrize(
    ("decision", "result", "calls"),
    [
        (Decision("approve"), ("call_a", "success", "paid"), 1),
        (Decision("edit", value="it was paid"), ("call_a", "success", "it was paid"), 0),
        (Decision("edit", value={"paid": 5}), ("call_a", "success", '{"paid":5}'), 0),
    ],
)
async def test_a_person_settles_what_nobody_knows(
    decision: Decision, result: tuple[str, str, str], calls: int
) -> None:
    runs, tools = Runs(), paying()
    await crash_in_flight(runs, tools)
    runs.decisions["call_a:1"] = decision

    for _ in range(2):
        await runs.run(caller(tools))
        assert runs.results == [result]
    assert len(tools.called) == calls


async def test_a_call_that_did_not_happen_is_an_error_that_the_model_reads() -> None:
    runs, tools = Runs(), paying()
    await crash_in_flight(runs, tools)
    runs.decisions["call_a:1"] = Decision("reject", reason="The bank was closed.")

    await runs.run(caller(tools))
    ((_, status, text),) = runs.results
    assert status == "error"
    assert text.endswith("it is not made again: The bank was closed.")
    assert tools.called == []


async def test_a_call_that_was_allowed_again_and_left_again_asks_again() -> None:
    runs, tools = Runs(), paying()
    await crash_in_flight(runs, tools)
    runs.decisions["call_a:1"] = Decision("approve")
    await crash_in_flight(runs, tools)

    (request,) = await runs.asked(caller(tools))
    assert request.key == "call_a:2"
    assert tools.called == []


async def test_a_tool_that_needs_a_word_is_called_once_it_is_given() -> None:
    runs, tools = Runs(), paying(traits=ASKING)
    for _ in range(2):
        (request,) = await runs.asked(caller(tools))
        assert (request.kind, request.key, request.arguments) == ("tool", "call_a", '{"amount": 5}')
        assert (tools.called, runs.events) == ([], [])

    runs.decisions["call_a"] = Decision("approve")
    again = caller(tools, ToolCall("call_other", "pay", '{"amount":5}'))
    await runs.run(again)
    await runs.run(again)
    assert len(tools.called) == 1
    assert runs.results == [("call_a", "success", "paid")]


async def test_an_edited_call_is_made_with_what_the_person_wrote() -> None:
    runs, tools = Runs(), paying(traits=ASKING)
    await runs.asked(caller(tools))
    runs.decisions["call_a"] = Decision("edit", arguments='{"amount":4}')

    for _ in range(2):
        await runs.run(caller(tools))
        called = next(event for event in runs.events if isinstance(event, ToolCalled))
        assert called.arguments == '{"amount":4}'
    assert tools.called == [("pay", '{"amount":4}')]


async def test_a_rejected_call_is_never_made_and_the_model_reads_why() -> None:
    runs, tools = Runs(), paying(traits=ASKING)
    await runs.asked(caller(tools))
    runs.decisions["call_a"] = Decision("reject", reason="Too much.", decided_by="ann")

    await runs.run(caller(tools))
    assert runs.results == [("call_a", "error", "The call of 'pay' was rejected by ann: Too much.")]
    assert tools.called == []


async def test_an_approved_call_that_was_left_in_flight_is_not_approved_again() -> None:
    runs, tools = Runs(), paying(traits=ASKING)
    await runs.asked(caller(tools))
    runs.decisions["call_a"] = Decision("edit", arguments='{"amount":4}')
    await crash_in_flight(runs, tools)

    (request,) = await runs.asked(caller(tools))
    assert (request.kind, request.arguments) == ("outcome_unknown", '{"amount":4}')
    runs.decisions[request.key] = Decision("approve")
    await runs.run(caller(tools))
    assert tools.called == [("pay", '{"amount":4}')]


async def test_a_caller_who_waits_can_not_wait_for_a_person() -> None:
    tools = paying(traits=ASKING)

    with pytest.raises(ApprovalNeedsDurableRun, match="'pay'"):
        await caller(tools).execute(asks("Go"))
    assert tools.called == []


async def test_the_calls_beside_one_that_waits_are_finished_first() -> None:
    runs, tools = Runs(), ScriptedTools(a="1", pay="paid")
    tools.said_of["pay"] = ASKING
    models = ScriptedModels(calls(("pay", "{}"), ("a", "{}")))
    agent = made(ReactTemplate, models, tools, tools=["a", "pay"])

    (request,) = await runs.asked(agent)
    assert request.tool == "pay"
    assert tools.called == [("a", "{}")]
    assert [output for _, _, output in runs.results] == ["1"]


async def test_an_attempt_that_lost_the_run_calls_nothing_more() -> None:
    runs, tools = Runs(), paying()
    old = runs.next_attempt()
    runs.next_attempt()

    with pytest.raises(AttemptLost):
        await old.before(ToolCall("call_a", "pay", "{}"), step="", repeatable=False)
    assert tools.called == []


async def test_a_short_outage_of_the_database_loses_no_call() -> None:
    runs, tools = Runs(), paying()
    runs.ledger.fails = 2
    agent = caller(tools)

    async def outage_after_the_call(name: str, arguments: str) -> ToolOutcome:
        runs.ledger.fails = 2
        return ToolOutcome("success", "paid")

    tools.call = outage_after_the_call  # type: ignore[method-assign]
    await runs.run(agent)
    assert runs.results == [("call_a", "success", "paid")]


async def test_what_a_tool_did_is_recorded_although_the_run_is_cancelled() -> None:
    runs = Runs()
    log = runs.next_attempt()
    entered = await log.before(ToolCall("call_a", "pay", "{}"), step="", repeatable=False)
    runs.ledger.fails = 1
    task = asyncio.create_task(log.after(entered, ToolOutcome("success", "paid"), 1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    kept = runs.store.tables.tool_calls
    await until(lambda: kept[RUN, "call_a"][1].status == "success")


@pytest.mark.parametrize("id", ["", "a b", "x" * 300, "\ud800", "nul\0"])
async def test_whatever_a_model_writes_is_recorded(id: str) -> None:
    runs, tools = Runs(), paying("\ud800 and \0")
    call = ToolCall(id, "pay", '{"amount": "\\u0000\\ud800", "more": [1, {}')
    for _ in range(2):
        await runs.run(caller(tools, call))

    assert len(tools.called) == 1
    assert runs.results[0][1:] == ("success", "? and \ufffd")


async def test_an_output_that_no_model_can_read_is_an_error() -> None:
    runs = Runs()
    await runs.run(caller(paying("x" * (MAX_OUTPUT + 1))))

    assert runs.results[0][1] == "error"
    assert "1000001 characters" in runs.results[0][2]


async def test_a_call_that_took_too_long_has_failed_for_good() -> None:
    runs, tools = Runs(), paying(traits=ToolTraits(timeout_s=0.001))
    tools.results["pay"] = asyncio.Event()
    await runs.run(caller(tools))
    tools.results["pay"] = "paid"

    await runs.run(caller(tools))
    assert runs.results[0][1:] == ("error", "The tool 'pay' took more than 0.001 s.")


async def test_outside_of_a_run_a_tool_is_just_called() -> None:
    tools = paying()

    outcome = await call_tool(tools, ToolCall("call_a", "pay", "{}"), 1)
    assert outcome == ToolOutcome("success", "paid")
    with pytest.raises(ExecutionFailed):
        tool_call()


class Graph(LangGraphTemplate):
    """A graph of somebody else's, with tools of its own."""

    template_id, template_name = "graph", "Graph"
    own: Mapping[str, ToolTraits]
    tools: list[BaseTool]

    def build_graph(self) -> StateGraph[MessagesState]:
        async def ask(state: MessagesState) -> dict[str, object]:
            return {"messages": [await self.model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask", ask)
        graph.add_node("tools", ToolNode(self.once(self.tools, self.own)))
        graph.add_edge(START, "ask")
        graph.add_edge("ask", "tools")
        return graph


def graph(charged: list[int], traits: ToolTraits = ToolTraits()) -> Graph:  # noqa: B008
    @langchain_tool
    async def charge(amount: int) -> str:
        """Charge the card."""
        charged.append(amount)
        if amount > 99:
            raise Crash
        return f"charged {amount}"

    kind: type[Graph]
    kind = type("Graph", (Graph,), {"tools": [charge], "own": {"charge": traits}})
    wanted = calls(("charge", '{"amount": 5}'), ("charge", '{"amount": 100}'))
    return made(kind, ScriptedModels(wanted))


async def test_a_langchain_tool_is_called_once_over_all_attempts() -> None:
    runs, charged = Runs(), list[int]()
    with pytest.raises(Crash):
        await runs.run(graph(charged))
    await runs.run(graph(charged))

    assert sorted(charged) == [5, 100]
    assert sorted(runs.results) == [
        ("call_0", "success", "charged 5"),
        ("call_1", "error", "Crash: "),
    ]


async def test_a_langchain_tool_can_wait_for_a_person_too() -> None:
    runs, charged = Runs(), list[int]()
    first, second = await runs.asked(graph(charged, ASKING))
    assert (first.tool, first.arguments, charged) == ("charge", '{"amount":5}', [])

    runs.decisions[first.key] = Decision("edit", arguments='{"amount":4}')
    runs.decisions[second.key] = Decision("reject")
    await runs.run(graph(charged, ASKING))
    assert charged == [4]


async def test_a_langchain_tool_answers_as_it_would_alone() -> None:
    charged: list[int] = []
    agent = graph(charged)
    (wrapped,) = agent.once(agent.tools)
    request = {"type": "tool_call", "id": "call_1", "name": "charge", "args": {"amount": 7}}

    message = await wrapped.ainvoke(request)
    assert message == ToolMessage("charged 7", tool_call_id="call_1", name="charge")
    assert await wrapped.ainvoke({"amount": 8}) == "charged 8"
    with pytest.raises(Crash):
        await wrapped.ainvoke({"amount": 100})
    assert wrapped.args == agent.tools[0].args
