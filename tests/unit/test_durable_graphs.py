# ruff: noqa: ANN401 - a graph's nodes are typed by its state
"""Graphs of durable runs: what is not done twice, and where they stop."""

import asyncio
from operator import add
from typing import Annotated, Any, ClassVar, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from pydantic import BaseModel

from runtime.domain.errors import (
    ApprovalNeedsDurableRun,
    DatabaseUnavailable,
    StateNotStorable,
)
from runtime.domain.events.runs import RunCompleted, StepStarted
from runtime.domain.services.durability import (
    ApprovalRequest,
    AttemptLost,
    Decision,
    HandedOver,
)
from runtime.domain.value_objects.chat import GenerationOptions, ToolSpec
from runtime.infrastructure.frameworks.langgraph.templates.react import ReactTemplate
from runtime.infrastructure.frameworks.langgraph.templates.simple import SimpleTemplate
from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.scope import current_step, suspend
from tests.durable import DurableTry, approve
from tests.fakes_models import (
    ScriptedModels,
    ScriptedTools,
    asks,
    calls,
    events_of,
    made,
    says,
    steps_of,
    text_of,
)


class Notes(TypedDict):
    notes: Annotated[list[Any], add]


class Noting(LangGraphTemplate[BaseModel]):
    """Nodes note their names; `wanted` says what they do besides."""

    template_id = template_name = "noting"
    answer_key = "notes"
    edges: ClassVar[list[tuple[str, str]]] = [(START, "a"), ("a", "b"), ("b", "c")]
    wanted: ClassVar[dict[str, Any]] = {}
    made: ClassVar[list[str]] = []

    def graph_input(self, input: Any) -> Any:
        return {"notes": []}

    def build_graph(self) -> Any:
        graph = StateGraph(Notes)
        for name in dict.fromkeys(target for _, target in self.edges):
            graph.add_node(name, self._node(name))
        for edge in self.edges:
            graph.add_edge(*edge)
        return graph

    def _node(self, name: str) -> Any:
        async def node(state: Notes) -> Any:
            self.made.append(name)
            result = self.wanted[name]() if name in self.wanted else name
            if hasattr(result, "__await__"):
                result = await result
            return {"notes": [result]}

        return node


def noting(*edges: tuple[str, str], **wanted: Any) -> type[Noting]:
    given = {"edges": list(edges), "wanted": wanted, "made": []}
    return type("OwnNoting", (Noting,), given if edges else given | {"edges": Noting.edges})


BOTH = ((START, "a"), (START, "b"), ("a", "c"), ("b", "c"))
"""Two nodes side by side."""


class Gate:
    """Holds up the first who comes."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._first = True

    async def __call__(self) -> str:
        first, self._first = self._first, False
        if first:
            self.reached.set()
            await asyncio.Event().wait()
        return "gate"


async def test_finished_steps_are_not_made_again() -> None:
    gate = Gate()
    template = noting(b=gate)
    run = DurableTry(template)
    await run.killed(gate.reached)

    events = await run.attempt()

    assert template.made == ["a", "b", "b", "c"]
    assert steps_of(events) == ["+b", "-b", "+c", "-c"]
    assert text_of(events) == '["a","gate","c"]'
    assert run.durability is not None
    assert not run.durability.restarted


async def test_a_step_that_is_made_again_has_the_same_id() -> None:
    gate = Gate()
    run = DurableTry(noting(b=gate))
    await run.killed(gate.reached)
    await run.attempt()

    ids = [event.step_id for event in run.events if isinstance(event, StepStarted)]
    assert [event.name for event in run.events if isinstance(event, StepStarted)] == [*"abbc"]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


async def test_a_finished_step_beside_one_that_was_cut_off_is_kept() -> None:
    gate = Gate()
    template = noting(*BOTH, b=gate)
    run = DurableTry(template)
    await run.killed(gate.reached)
    assert steps_of(run.events) == ["+a", "+b", "-a"]

    events = await run.attempt()

    assert template.made == ["a", "b", "b", "c"]
    assert steps_of(events) == ["+b", "-b", "+c", "-c"]


async def test_what_a_step_said_is_on_record_before_the_step_counts_as_done() -> None:
    gate = Gate()
    run = DurableTry(noting(b=gate))

    await run.killed(gate.reached)

    assert steps_of(run.events[: run.flushed]) == ["+a", "-a"]


async def test_an_attempt_that_lost_the_run_leaves_nothing() -> None:
    async def lost() -> str:
        await run.take_away()
        return "b"

    run = DurableTry(noting(b=lost))
    with pytest.raises(AttemptLost):
        await run.attempt()

    saved = await run.checkpoints.history(run.input.run_id)
    assert [each.step for each in saved] == [1, 0, -1]


async def test_a_checkpoint_waits_for_a_database_that_is_away_for_a_moment() -> None:
    run = DurableTry(noting())
    run.checkpoints.failures = [DatabaseUnavailable(), DatabaseUnavailable()]

    await run.attempt()

    assert await notes_of(run) == [*"abc"]


async def test_a_step_that_can_not_reach_the_database_is_made_again() -> None:
    failures: list[Exception] = [DatabaseUnavailable()]

    def once() -> str:
        if failures:
            raise failures.pop()
        return "b"

    template = noting(b=once)
    run = DurableTry(template)
    with pytest.raises(DatabaseUnavailable):
        await run.attempt()
    await run.attempt()

    assert template.made == ["a", "b", "b", "c"]


async def test_messages_of_earlier_attempts_are_not_said_again() -> None:
    gate = Gate()

    class Talk(LangGraphTemplate[BaseModel]):
        template_id = template_name = "talk"

        def build_graph(self) -> Any:
            async def greet(state: MessagesState) -> Any:
                return {"messages": [await self.model.ainvoke(state["messages"])]}

            async def hold(state: MessagesState) -> Any:
                await gate()
                return {"messages": [*state["messages"], AIMessage("Bye.")]}

            graph = StateGraph(MessagesState)
            graph.add_sequence([greet, hold])
            graph.add_edge(START, "greet")
            return graph

    run = DurableTry(Talk, ScriptedModels(says("Hello. ")))
    await run.killed(gate.reached)
    events = await run.attempt()

    assert text_of(run.events) == "Hello. Bye."
    assert text_of(events) == "Bye."


async def test_a_run_that_was_done_but_for_its_end_says_nothing_new() -> None:
    run = DurableTry(SimpleTwoSteps, ScriptedModels(says("Hello.")))
    await run.attempt()

    events = await run.attempt()

    assert events == [RunCompleted("stop")]


class SimpleTwoSteps(LangGraphTemplate[BaseModel]):
    template_id = template_name = "two"

    def build_graph(self) -> Any:
        async def answer(state: MessagesState) -> Any:
            return {"messages": [await self.model.ainvoke(state["messages"])]}

        async def rest(state: MessagesState) -> None: ...

        graph = StateGraph(MessagesState)
        graph.add_sequence([answer, rest])
        graph.add_edge(START, "answer")
        return graph


async def test_calls_for_the_caller_are_still_theirs_after_a_crash() -> None:
    weather = GenerationOptions(tools=(ToolSpec("weather", "The weather."),))
    run = DurableTry(
        ReactTemplate, ScriptedModels(calls(("weather", "{}"))), input=asks("Hi", options=weather)
    )
    first = await run.attempt()

    assert first[-1] == RunCompleted("tool_calls")
    assert await run.attempt() == [RunCompleted("tool_calls")]


async def test_a_forced_tool_is_not_forced_again_after_a_crash() -> None:
    reached = asyncio.Event()
    models = ScriptedModels(
        calls(("a", "{}")), [reached_by(reached), asyncio.Event()], says("Done")
    )
    forced = GenerationOptions(tool_choice="required")
    run = DurableTry(
        ReactTemplate, models, ScriptedTools(a="1"), {"tools": ["a"]}, asks("Hi", options=forced)
    )
    await run.killed(reached)

    await run.attempt()

    assert [call.options.tool_choice for call in models.calls] == ["required", None, None]


def reached_by(event: asyncio.Event) -> Any:
    class Reached(asyncio.Event):
        async def wait(self) -> Any:
            event.set()
            return True

    return Reached()


async def test_a_step_may_ask_a_person() -> None:
    template = noting(b=lambda: interrupt({"question": "Really?"}))
    run = DurableTry(template)

    pause = await run.suspended()
    request = pause.requests[0]
    assert (request.kind, request.value) == ("interrupt", {"question": "Really?"})

    run.decisions[request.key] = approve("yes, because")
    await run.attempt()

    assert steps_of(run.events) == ["+a", "-a", "+b", "+b", "-b", "+c", "-c"]
    assert await notes_of(run) == ["a", "yes, because", "c"]


@pytest.mark.parametrize(
    ("decision", "answer"),
    [
        (Decision("approve"), True),
        (Decision("approve", value=0), 0),
        (Decision("reject", reason="no"), False),
        (Decision("reject", value="never"), "never"),
        (Decision("edit", value={"to": "Ann"}), {"to": "Ann"}),
    ],
)
async def test_an_answer_is_what_interrupt_returns(decision: Decision, answer: object) -> None:
    run = DurableTry(noting(b=lambda: interrupt("?")))
    pause = await run.suspended()
    run.decisions[pause.requests[0].key] = decision

    await run.attempt()

    assert await notes_of(run) == ["a", answer, "c"]


async def test_steps_side_by_side_ask_at_the_same_time() -> None:
    template = noting(
        *BOTH, (START, "d"), a=lambda: interrupt("first"), b=lambda: interrupt("second")
    )
    run = DurableTry(template)

    pause = await run.suspended()
    assert sorted(str(each.value) for each in pause.requests) == ["first", "second"]
    assert "-d" in steps_of(run.events)

    run.decisions |= {each.key: approve(f"{each.value}!") for each in pause.requests}
    await run.attempt()

    assert sorted(await notes_of(run)) == ["c", "d", "first!", "second!"]
    assert template.made.count("d") == 1


async def test_one_step_may_ask_twice() -> None:
    run = DurableTry(noting(b=lambda: [interrupt("one"), interrupt("two")]))

    for answer in (1, 2):
        pause = await run.suspended()
        assert len(pause.requests) == 1
        run.decisions[pause.requests[0].key] = approve(answer)
    await run.attempt()

    assert await notes_of(run) == ["a", [1, 2], "c"]


async def test_a_question_stays_open_through_a_crash() -> None:
    run = DurableTry(noting(b=lambda: interrupt("?")))
    first = await run.suspended()

    again = await run.suspended()

    assert [each.key for each in again.requests] == [each.key for each in first.requests]


async def test_an_answer_is_not_lost_with_the_attempt_that_got_it() -> None:
    gate = Gate()

    async def ask() -> Any:
        answer = interrupt("?")
        await gate()
        return answer

    run = DurableTry(noting(b=ask))
    pause = await run.suspended()
    run.decisions[pause.requests[0].key] = approve("yes")
    await run.killed(gate.reached)

    await run.attempt()

    assert await notes_of(run) == ["a", "yes", "c"]


async def test_nobody_can_be_asked_while_a_caller_waits() -> None:
    asking = noting(b=lambda: interrupt("?"))
    with pytest.raises(ApprovalNeedsDurableRun):
        await events_of(made(asking, ScriptedModels()), asks("Go"))

    class Stopping(asking):  # type: ignore[misc,valid-type]
        def build_graph(self) -> Any:
            return super().build_graph().compile(interrupt_before=["b"])

    with pytest.raises(ApprovalNeedsDurableRun):
        await events_of(made(Stopping, ScriptedModels()), asks("Go"))


async def test_code_in_a_step_may_wait_for_a_decision() -> None:
    request = ApprovalRequest(kind="tool", key="call_1", tool="pay", arguments='{"amount":5}')

    async def pay() -> str:
        return (await suspend(request)).decision

    template = noting(*BOTH, b=pay)
    run = DurableTry(template)

    pause = await run.suspended()
    assert pause.requests == [request]
    assert "-a" in steps_of(run.events)

    run.decisions["call_1"] = Decision("reject")
    await run.attempt()
    assert sorted(await notes_of(run)) == ["a", "c", "reject"]
    assert template.made.count("a") == 1


async def test_a_node_to_be_passed_with_a_word_is_waited_in_front_of() -> None:
    class Stopping(noting()):  # type: ignore[misc]
        def build_graph(self) -> Any:
            return super().build_graph().compile(interrupt_before=["b"])

    run = DurableTry(Stopping)
    pause = await run.suspended()
    again = await run.suspended()
    assert again.requests[0].key == pause.requests[0].key
    assert again.requests[0].value == {"before": ["b"]}
    assert Stopping.made == ["a"]

    run.decisions[pause.requests[0].key] = approve()
    await run.attempt()
    assert Stopping.made == ["a", "b", "c"]


async def test_a_run_is_handed_over_between_two_steps() -> None:
    def stop() -> str:
        assert run.durability is not None
        run.durability.stop()
        return "b"

    template = noting(b=stop)
    run = DurableTry(template)
    with pytest.raises(HandedOver):
        await run.attempt()
    assert template.made == ["a", "b"]

    await run.attempt()
    assert template.made == ["a", "b", "c"]


async def test_graphs_inside_of_graphs_go_on_where_they_were() -> None:
    gate = Gate()
    inner = noting(b=gate)

    class Outer(LangGraphTemplate[BaseModel]):
        template_id = template_name = "outer"
        answer_key = "notes"

        def graph_input(self, input: Any) -> Any:
            return {"notes": []}

        def build_graph(self) -> Any:
            graph = StateGraph(Notes)
            graph.add_node("inner", made(inner, ScriptedModels()).graph)
            graph.add_edge(START, "inner")
            return graph.compile(checkpointer=InMemorySaver())

    run = DurableTry(Outer)
    await run.killed(gate.reached)
    await run.attempt()

    assert inner.made == ["a", "b", "b", "c"]
    assert await notes_of(run) == ["a", "gate", "c"]


async def test_a_graph_that_a_plain_node_calls_keeps_its_steps_too() -> None:
    inner = noting()

    class Outer(LangGraphTemplate[BaseModel]):
        template_id = template_name = "outer"
        answer_key = "notes"

        def graph_input(self, input: Any) -> Any:
            return {"notes": []}

        def build_graph(self) -> Any:
            deep = StateGraph(Notes)
            deep.add_node("deep", lambda state: {"notes": ["deep"]})
            deep.add_edge(START, "deep")
            called = deep.compile()

            def node(state: Notes) -> Any:
                return {"notes": called.invoke({"notes": []})["notes"]}

            graph = StateGraph(Notes)
            graph.add_node("node", node)
            graph.add_edge(START, "node")
            return graph

    run = DurableTry(Outer)
    await run.attempt()

    assert await notes_of(run) == ["deep"]
    namespaces = {namespace for namespace, _ in run.checkpoints.runs[run.input.run_id].checkpoints}
    assert len(namespaces) == 2
    assert inner.made == []


async def test_work_that_is_sent_out_is_finished_once() -> None:
    gate = Gate()
    worked: list[int] = []

    class Sending(LangGraphTemplate[BaseModel]):
        template_id = template_name = "sending"
        answer_key = "notes"

        def graph_input(self, input: Any) -> Any:
            return {"notes": []}

        def build_graph(self) -> Any:
            async def work(number: Any) -> Any:
                worked.append(number)
                return {"notes": [await gate() if number == 2 else number]}

            graph: Any = StateGraph(Notes)
            graph.add_node("plan", lambda state: None)
            graph.add_node("work", work)
            graph.add_edge(START, "plan")
            graph.add_conditional_edges("plan", lambda _: [Send("work", n) for n in (1, 2, 3)])
            return graph

    run = DurableTry(Sending)
    await run.killed(gate.reached)
    await run.attempt()

    assert sorted(worked) == [1, 2, 2, 3]
    assert await notes_of(run) == [1, "gate", 3]


async def test_a_step_knows_its_id() -> None:
    ids: list[str] = []

    def note() -> str:
        ids.append(current_step())
        return "noted"

    run = DurableTry(noting(*BOTH, a=note, b=note, c=note))
    events = await run.attempt()

    assert sorted(ids) == sorted(e.step_id for e in events if isinstance(e, StepStarted))
    assert current_step() == ""


class Plan(BaseModel):
    goal: str
    steps: list[str] = []


async def test_a_state_holds_types_that_the_template_lists() -> None:
    gate = Gate()
    template = noting(a=lambda: Plan(goal="rest"), b=gate)
    run = DurableTry(template)
    with pytest.raises(StateNotStorable, match=r"test_durable_graphs\.Plan.*checkpoint_types"):
        await run.attempt()

    listed = type("Listed", (template,), {"checkpoint_types": (Plan,)})
    run = DurableTry(listed)
    await run.killed(gate.reached)
    await run.attempt()
    assert (await notes_of(run))[0] == Plan(goal="rest")


async def test_an_agent_of_one_node_begins_anew() -> None:
    run = DurableTry(SimpleTemplate, ScriptedModels(says("Hi"), says("Hi")))
    first = await run.attempt()
    second = await run.attempt()

    assert text_of(second) == "Hi"
    assert run.durability is not None
    assert run.durability.restarted
    starts = [e.step_id for e in [*first, *second] if isinstance(e, StepStarted)]
    assert starts[0] == starts[1]


async def notes_of(run: DurableTry) -> Any:
    template = run.instance()
    assert isinstance(template, LangGraphTemplate)
    newest = await run.checkpoints.find(run.input.run_id)
    assert newest is not None
    state = template._codec.decode(newest.state)
    return template._codec.decode(state["inline"]["notes"])
