"""What every LangGraph template gets from its base, and the two that only talk."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from runtime.domain.errors import ExecutionFailed, IterationLimit, UpstreamFailed
from runtime.domain.events.runs import (
    RunCompleted,
    StepFinished,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import (
    ChatRole,
    FilePart,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolSpec,
    Usage,
)
from runtime.infrastructure.frameworks.langgraph.templates.conversation import (
    ConversationTemplate,
)
from runtime.infrastructure.frameworks.langgraph.templates.custom import CustomTemplate
from runtime.infrastructure.frameworks.langgraph.templates.react import ReactTemplate
from runtime.infrastructure.frameworks.langgraph.templates.simple import SimpleTemplate
from runtime.infrastructure.frameworks.langgraph.templates.task import TaskTemplate
from runtime.infrastructure.frameworks.langgraph.templates.workflow import WorkflowTemplate
from runtime.templates.langgraph import LangGraphTemplate, from_langchain, to_langchain
from tests.fakes_models import (
    ScriptedModels,
    asks,
    calls,
    events_of,
    failing,
    made,
    says,
    steps_of,
    text_of,
)

ALL = (
    SimpleTemplate,
    ConversationTemplate,
    TaskTemplate,
    ReactTemplate,
    WorkflowTemplate,
    CustomTemplate,
)


async def test_an_answer_streams_while_the_model_still_talks() -> None:
    go_on = asyncio.Event()
    models = ScriptedModels([TextDelta("Hel"), go_on, *says("lo")])
    agent = made(SimpleTemplate, models)

    seen = []
    async with aclosing(agent.stream_execute(asks("Hi"))) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event, TextDelta):
                go_on.set()

    assert text_of(seen) == "Hello"
    assert steps_of(seen) == ["+answer", "-answer"]
    assert UsageReported(Usage(10, 5), "scripted") in seen
    assert seen[-1] == RunCompleted("stop")


async def test_the_same_answer_comes_in_one_piece() -> None:
    models = ScriptedModels(says("Hel", "lo", finish="length"))

    answer = await made(SimpleTemplate, models).execute(asks("Hi", stream=False))

    assert (answer.text, answer.finish_reason) == ("Hello", "length")
    assert answer.usage == Usage(10, 5)
    assert models.calls[0].stream is False


async def test_closing_the_stream_stops_the_model() -> None:
    models = ScriptedModels([TextDelta("Hel"), asyncio.Event()])
    events = made(SimpleTemplate, models).stream_execute(asks("Hi"))

    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                break

    assert models.closed == 1


async def test_cancelling_the_run_stops_the_model() -> None:
    models = ScriptedModels([TextDelta("Hel"), asyncio.Event()])
    talking = asyncio.Event()

    async def emit(event: object) -> None:
        if isinstance(event, TextDelta):
            talking.set()

    task = asyncio.create_task(made(SimpleTemplate, models).run(asks("Hi"), emit))
    await talking.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert (task.cancelled(), models.closed) == (True, 1)


async def test_a_failing_provider_fails_the_step_and_the_run() -> None:
    models = ScriptedModels([TextDelta("Hel"), UpstreamFailed("cut")])

    seen, error = await failing(made(SimpleTemplate, models), asks("Hi"))

    assert isinstance(error, UpstreamFailed)
    assert text_of(seen) == "Hel"
    assert steps_of(seen) == ["+answer", "!answer"]


async def test_the_configuration_fixes_options_and_the_caller_fills_the_rest() -> None:
    models = ScriptedModels(says("Hi"))
    agent = made(SimpleTemplate, models, temperature=0.5)

    await agent.execute(asks("Hi", options=GenerationOptions(seed=7, temperature=0.5)))

    assert models.calls[0].options == GenerationOptions(temperature=0.5, seed=7)


async def test_only_the_latest_messages_and_the_system_prompt_are_sent() -> None:
    models = ScriptedModels(says("Hi"))
    agent = made(SimpleTemplate, models, system_prompt="Be brief.", history_messages=2)

    await agent.execute(asks(Message(ChatRole.SYSTEM, "Mine"), "one", "two", "three"))

    assert [message.text for message in models.calls[0].messages] == [
        "Be brief.",
        "Mine",
        "two",
        "three",
    ]


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_tool_result_keeps_its_call_however_short_the_history(last: int) -> None:
    agent = made(SimpleTemplate, ScriptedModels())
    wish = AIMessage("", tool_calls=[{"name": "a", "args": {}, "id": i} for i in ("1", "2")])
    results = [ToolMessage("x", tool_call_id=each) for each in ("1", "2")]

    kept = agent.conversation([HumanMessage("old"), wish, *results], last=last)

    assert kept == [wish, *results]


def test_a_conversation_that_begins_with_a_tool_result_is_cut_too() -> None:
    agent = made(SimpleTemplate, ScriptedModels())
    orphans = [ToolMessage("x", tool_call_id=str(each)) for each in range(3)]

    assert agent.conversation(orphans, last=1) == orphans


async def test_the_service_bot_is_told_every_filled_blank_as_it_is() -> None:
    models = ScriptedModels(says("Hi"))
    agent = made(
        ConversationTemplate,
        models,
        company_name="{Acme} %s",
        tone="concise",
        languages=["English", "German"],
        greeting="Welcome to Acme!",
        escalation="Call 123.",
        knowledge=[{"question": "Opening hours?", "answer": "9 to 5."}],
    )

    await agent.execute(asks("When are you open?"))

    prompt = models.calls[0].messages[0].text
    for part in (
        "{Acme} %s",
        "Be brief",
        "English, German",
        "Welcome to Acme!",
        "Call 123.",
        "Q: Opening hours?\nA: 9 to 5.",
    ):
        assert part in prompt


async def test_the_greeting_is_for_the_first_answer_only() -> None:
    models = ScriptedModels(says("Hi"))
    agent = made(ConversationTemplate, models, greeting="Welcome!")

    await agent.execute(asks("Hi", Message(ChatRole.ASSISTANT, "Welcome! Hi."), "And now?"))

    assert "Welcome!" not in models.calls[0].messages[0].text


@pytest.mark.parametrize("template", ALL)
def test_every_blank_is_explained_and_has_its_section(
    template: type[LangGraphTemplate[Any]],
) -> None:
    metadata = template.get_metadata()

    assert metadata.template_version == "1.0.0"
    assert metadata.template_description
    for section in metadata.sections:
        assert section.title != "General"
        for field in section.fields:
            assert field.label
            assert field.description, field.id


@pytest.mark.parametrize("template", ALL[:-1])
async def test_an_empty_configuration_makes_a_working_agent(
    template: type[LangGraphTemplate[Any]],
) -> None:
    models = ScriptedModels(*[says("fine")] * 5)

    checked = template.validate_config({})
    answer = await made(template, models, **checked.config).execute(asks("Hi"))

    assert checked.valid
    assert answer.text == "fine"


Build = Callable[[LangGraphTemplate[Any]], StateGraph[Any, Any, Any, Any]]


def a_template(build: Build, *, others: bool = False) -> type[LangGraphTemplate[Any]]:
    class Made(LangGraphTemplate[BaseModel]):
        """A test's own graph."""

        template_id, template_name = "made", "Made"
        other_models = others

        def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
            return build(self)

    return Made


def one_node(node: Any, **more: Any) -> StateGraph[Any, Any, Any, Any]:  # noqa: ANN401
    graph = StateGraph(MessagesState)
    graph.add_node("node", node, **more)
    graph.add_edge(START, "node")
    return graph


async def test_a_message_made_by_hand_is_sent_once() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage("By hand")]}

        async def again(state: MessagesState) -> dict[str, Any]:
            return {"messages": state["messages"]}

        graph = one_node(node)
        graph.add_node("again", again)
        graph.add_edge("node", "again")
        return graph

    events = await events_of(made(a_template(build), ScriptedModels()), asks("Hi"))

    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta("By hand")]


async def test_the_conversation_so_far_is_not_sent_again() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            said = await template.model.ainvoke(state["messages"])
            return {"messages": [*state["messages"], said]}

        return one_node(node)

    agent = made(a_template(build), ScriptedModels(says("New")))

    answer = await agent.execute(asks("Hi", Message(ChatRole.ASSISTANT, "Old"), "And?"))

    assert answer.text == "New"


async def test_a_call_made_by_hand_to_a_callers_tool_is_theirs_to_make() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            wishes = [
                {"name": "own", "args": {}, "id": "1"},
                {"name": "weather", "args": {"city": "Paris"}, "id": "2"},
            ]
            return {"messages": [AIMessage("", tool_calls=wishes)]}

        return one_node(node)

    options = GenerationOptions(tools=(ToolSpec("weather"),))
    events = await events_of(made(a_template(build), ScriptedModels()), asks("Hi", options=options))

    assert ToolCallDelta(0, "2", "weather", '{"city":"Paris"}') in events
    assert events[-1] == RunCompleted("tool_calls")


async def test_a_quiet_call_leaks_nothing_but_its_usage() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            await template.model.quiet.ainvoke("Think")
            return {"messages": [await template.model.ainvoke("Speak")]}

        return one_node(node)

    models = ScriptedModels(calls(("weather", "{}"), text="secret"), says("public"))
    options = GenerationOptions(tools=(ToolSpec("weather"),), max_tokens=3, seed=1)
    answer = await made(a_template(build), models).execute(asks("Hi", options=options))

    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("public", [], "stop")
    assert answer.usage == Usage(20, 10)
    assert models.calls[0].options == GenerationOptions(seed=1)
    assert models.calls[1].options == options


async def test_synchronous_nodes_can_call_the_model() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        def node(state: MessagesState) -> dict[str, Any]:
            return {"messages": [template.model.invoke(state["messages"])]}

        return one_node(node)

    events = await events_of(
        made(a_template(build), ScriptedModels(says("from a ", "thread"))), asks("Hi")
    )

    assert [e.text for e in events if isinstance(e, TextDelta)] == ["from a ", "thread"]


async def test_invoke_in_an_asynchronous_node_is_refused_instead_of_blocking() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            return {"messages": [template.model.invoke("Hi")]}

        return one_node(node)

    with pytest.raises(ExecutionFailed, match=r"await model\.ainvoke"):
        await made(a_template(build), ScriptedModels()).execute(asks("Hi"))


async def test_tokens_of_another_chat_model_stream_once() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        other = GenericFakeChatModel(messages=iter([AIMessage("two words")]))

        async def node(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await other.ainvoke(state["messages"])]}

        return one_node(node)

    events = await events_of(made(a_template(build, others=True), ScriptedModels()), asks("Hi"))

    assert [e.text for e in events if isinstance(e, TextDelta)] == ["two", " ", "words"]


async def test_the_runtimes_model_streams_once_beside_other_models() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            await template.model.quiet.ainvoke("Think")
            return {"messages": [await template.model.ainvoke(state["messages"])]}

        return one_node(node)

    models = ScriptedModels(says("secret"), says("one ", "answer"))
    answer = await made(a_template(build, others=True), models).execute(asks("Hi"))

    assert answer.text == "one answer"
    assert answer.usage == Usage(20, 10)


class Notes(TypedDict):
    messages: list[Any]
    notes: Annotated[list[str], add]


async def test_parallel_branches_join_through_a_reducer() -> None:
    seen: list[list[str]] = []

    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(Notes)
        for name in ("a", "b"):
            graph.add_node(name, lambda state, name=name: {"notes": [name]})
            graph.add_edge(START, name)
        graph.add_node("join", lambda state: seen.append(state["notes"]))
        graph.add_edge(["a", "b"], "join")
        return graph

    events = await events_of(made(a_template(build), ScriptedModels()), asks("Hi"))

    assert seen == [["a", "b"]]
    assert steps_of(events)[-2:] == ["+join", "-join"]
    assert len([e for e in events if isinstance(e, StepFinished)]) == 3


async def test_a_graph_that_never_ends_is_stopped() -> None:
    def build(template: LangGraphTemplate[Any]) -> StateGraph[Any, Any, Any, Any]:
        graph = one_node(lambda state: None)
        graph.add_edge("node", "node")
        return graph

    with pytest.raises(IterationLimit):
        await made(a_template(build), ScriptedModels()).execute(asks("Hi"))


CONVERSATION = [
    Message(ChatRole.SYSTEM, "Rules"),
    Message(ChatRole.DEVELOPER, "More rules", name="dev"),
    Message(ChatRole.USER, (TextPart("Look"), ImagePart("data:image/png;base64,AA", "low"))),
    Message(ChatRole.USER, (FilePart(file_id="file_1"),), name="ada"),
    Message(
        ChatRole.ASSISTANT,
        "",
        tool_calls=(ToolCall("1", "a", '{"x":1}'), ToolCall("2", "b", '{"x":')),
    ),
    Message(ChatRole.TOOL, "done", tool_call_id="1"),
    Message(ChatRole.TOOL, "bad", tool_call_id="2"),
    Message(ChatRole.ASSISTANT, "", refusal="No."),
    Message(ChatRole.ASSISTANT, "Fine"),
]


def test_messages_survive_the_way_to_langchain_and_back() -> None:
    assert from_langchain(to_langchain(CONVERSATION)) == CONVERSATION


def test_a_models_own_notes_are_not_sent_on() -> None:
    noted = AIMessage([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "Hi"}])

    assert from_langchain([noted]) == [Message(ChatRole.ASSISTANT, (TextPart("Hi"),))]
    assert from_langchain([SystemMessage("S")])[0].role is ChatRole.SYSTEM
