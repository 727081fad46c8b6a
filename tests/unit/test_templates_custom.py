import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from runtime.domain.errors import InvalidConfig
from runtime.domain.events.runs import TextDelta, ToolCalled
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.infrastructure.frameworks.discovery import TemplateFolder
from runtime.infrastructure.frameworks.langgraph.templates.custom import CustomTemplate
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.templates.sources import allow_folder, forbid_folder
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

Write = Callable[[str, str], None]

IMPORTS = """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing import TypedDict
"""
FACTORY = """
def build(model, settings, tools=()) -> StateGraph:
    async def node(state):
        name = settings.get("name", "nobody")
        prompt = [("system", "You are " + name), *state["messages"]]
        return {"messages": [await model.ainvoke(prompt)]}
    graph = StateGraph(MessagesState)
    graph.add_node("think", node)
    graph.add_edge(START, "think")
    return graph
"""
FIXED = """
def reply(state):
    return {"messages": [AIMessage("fixed")]}
builder = StateGraph(MessagesState)
builder.add_node("reply", reply)
builder.add_edge(START, "reply")
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a module into a template folder."""
    before = set(sys.modules)
    sys.path.append(str(tmp_path))
    allow_folder(tmp_path)

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(IMPORTS + dedent(code))

    yield write
    forbid_folder(tmp_path)
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def refusal(graph: str, **config: object) -> str:
    result = CustomTemplate.validate_config({"graph": graph} | config)
    assert not result.valid
    return "; ".join(f"{problem.path}: {problem.message}" for problem in result.errors)


async def test_a_factory_gets_the_model_and_the_settings_and_streams(write: Write) -> None:
    write("made_by_factory", FACTORY)
    config = {"graph": "made_by_factory:build", "settings": {"name": "Ada"}}
    models = ScriptedModels(says("Hel", "lo"))

    assert CustomTemplate.validate_config(config).valid
    events = await events_of(made(CustomTemplate, models, **config), asks("Hi"))

    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Hel", "lo"]
    assert steps_of(events) == ["+think", "-think"]
    assert "You are Ada" in models.prompt(0)


@pytest.mark.parametrize("attribute", ["builder", "compiled"])
async def test_a_graph_can_be_named_as_it_is_or_compiled(write: Write, attribute: str) -> None:
    write("as_it_is", FIXED + "compiled = builder.compile()\n")
    config = {"graph": f"as_it_is:{attribute}"}

    assert CustomTemplate.validate_config(config).valid
    answer = await made(CustomTemplate, ScriptedModels(), **config).execute(asks("Hi"))

    assert answer.text == "fixed"


async def test_models_of_the_graphs_own_stream_too(write: Write) -> None:
    write(
        "own_model",
        """
        def build() -> CompiledStateGraph:
            other = GenericFakeChatModel(messages=iter([AIMessage("one two")]))
            async def node(state):
                return {"messages": [await other.ainvoke(state["messages"])]}
            graph = StateGraph(MessagesState)
            graph.add_node("node", node)
            graph.add_edge(START, "node")
            return graph.compile()
        """,
    )
    agent = made(CustomTemplate, ScriptedModels(), graph="own_model:build")

    events = await events_of(agent, asks("Hi", Message(ChatRole.ASSISTANT, "Old"), "And?"))

    assert [e.text for e in events if isinstance(e, TextDelta)] == ["one", " ", "two"]


TEXT_STATE = """
class State(TypedDict):
    question: str
    answer: object

def build(model, settings) -> StateGraph:
    async def node(state):
        said = await model.ainvoke(state["question"])
        return {"answer": settings["wrap"] if "wrap" in settings else said.text.upper()}
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph
"""


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, "LOUD"), ({"wrap": {"a": [1]}}, '{"a":[1]}')]
)
async def test_a_state_without_messages_gives_the_value_of_its_key(
    write: Write, settings: object, expected: str
) -> None:
    write("text_state", TEXT_STATE)
    models = ScriptedModels(says("lo", "ud"))
    agent = made(
        CustomTemplate,
        models,
        graph="text_state:build",
        settings=settings,
        input_key="question",
        input_as="text",
        output_key="answer",
    )

    events = await events_of(agent, asks("First", "Second"))

    assert [e.text for e in events if isinstance(e, TextDelta)] == [expected]
    assert models.prompt(0) == "Second"


async def test_a_graph_that_leaves_its_answer_empty_fails(write: Write) -> None:
    write("text_state", TEXT_STATE)
    agent = made(
        CustomTemplate,
        ScriptedModels(says("x")),
        graph="text_state:build",
        settings={"wrap": None},
        input_key="question",
        input_as="text",
        output_key="answer",
    )

    with pytest.raises(Exception, match="without a value of 'answer'"):
        await agent.execute(asks("Hi"))


async def test_granted_tools_run_through_the_runtime(write: Write) -> None:
    write(
        "with_tools",
        """
        from langgraph.prebuilt import ToolNode, tools_condition

        def build(model, tools) -> StateGraph:
            async def think(state):
                return {"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}
            graph = StateGraph(MessagesState)
            graph.add_node("think", think)
            graph.add_node("tools", ToolNode(tools))
            graph.add_edge(START, "think")
            graph.add_conditional_edges("think", tools_condition)
            graph.add_edge("tools", "think")
            return graph
        """,
    )
    tools = ScriptedTools(lookup="found", other="never")
    models = ScriptedModels(calls(("lookup", '{"q": 1}')), says("Done"))
    agent = made(CustomTemplate, models, tools, graph="with_tools:build", tools=["lookup"])

    events = await events_of(agent, asks("Go"))

    assert tools.called == [("lookup", '{"q":1}')]
    assert [e.name for e in events if isinstance(e, ToolCalled)] == ["lookup"]
    assert models.calls[1].messages[-1].text == "found"
    assert text_of(events) == "Done"


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ("os:system", "can't be used"),
        ("subprocess:run", "can't be used"),
        ("runtime.main:app", "can't be used"),
        ("langgraph.__main__:x", "can't be used"),
        ("no_such_package:graph", "no module 'no_such_package'"),
        ("pydantic.nothing.deeper:graph", "no module 'pydantic.nothing'"),
        ("pydantic.main.deeper:graph", "no module 'pydantic.main.deeper'"),
        ("pydantic_core._pydantic_core:x", "no Python source file"),
        ("pydantic.main:BaseModel", "does not import langgraph"),
        ("langgraph.graph:StateGraph", "only imports 'StateGraph'"),
        ("langgraph.graph.state:StateGraph", "neither a graph nor a factory"),
        ("langgraph.graph.state:nothing", "no 'nothing' at its top level"),
        ("tests.fakes_models:made", "neither in an installed package"),
    ],
)
def test_what_is_no_graph_of_yours_is_refused_unimported(graph: str, why: str) -> None:
    before = set(sys.modules)

    assert why in refusal(graph)
    assert set(sys.modules) <= before


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def graph(): ...", "must be annotated"),
        ("def graph() -> int: ...", "must be annotated"),
        ("async def graph() -> StateGraph: ...", "neither a graph nor a factory"),
        ("class graph: ...", "neither a graph nor a factory"),
        ("graph = 5", "neither a graph nor a factory"),
        ("if True:\n    graph = StateGraph(MessagesState)", "no 'graph' at its top level"),
        ("from langgraph.graph import START as graph", "only imports 'graph'"),
    ],
)
def test_a_module_that_does_not_fit_is_never_run(write: Write, code: str, why: str) -> None:
    write("misfit", "raise SystemExit('it ran')\n" + code)

    message = refusal("misfit:graph")

    assert why in message
    assert "it ran" not in message


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("graph = print('x')", "A graph is needed, not a NoneType"),
        ("graph = dict()", "A graph is needed, not a dict"),
        ("def graph(model, key) -> StateGraph: ...", "takes 'key'; it may take model, tools"),
        ("def graph(*model) -> StateGraph: ...", "takes 'model'"),
        ("import nowhere_at_all\ngraph = StateGraph(MessagesState)", "No module named"),
        ("import sys; sys.exit(3)\ngraph = StateGraph(MessagesState)", "SystemExit"),
        ("open('/no/such/file')\ngraph = StateGraph(MessagesState)", "No such file"),
        ("graph = StateGraph(", "SyntaxError"),
        (
            "from langgraph.checkpoint.memory import InMemorySaver\n"
            + FIXED
            + "graph = builder.compile(checkpointer=InMemorySaver())",
            "without a checkpointer",
        ),
    ],
)
def test_a_graph_that_can_not_be_used_is_refused_with_its_cause(
    write: Write, tmp_path: Path, code: str, why: str
) -> None:
    write("refused_graph", code)

    message = refusal("refused_graph:graph")

    assert message.startswith("graph: ")
    assert why in message
    assert str(tmp_path) not in message
    assert "/no/such" not in message


def test_what_the_graph_can_not_take_is_refused_by_field(write: Write) -> None:
    write("fixed_graph", FIXED)

    message = refusal(
        "fixed_graph:builder", settings={"a": 1}, input_key="question", output_key="answer"
    )

    assert message == (
        "settings: The graph has no way to take settings; "
        "input_key: The graph's state has no key 'question'; "
        "output_key: The graph's state has no key 'answer'"
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('name')", "The factory failed: KeyError: 'name'"),
        ("return 5", "A graph is needed, not an int"),
        ("return StateGraph(MessagesState)", "The graph can't be compiled"),
    ],
)
def test_a_factory_that_fails_makes_the_configuration_invalid(
    write: Write, body: str, why: str
) -> None:
    write("failing", f"def build() -> StateGraph:\n    {body}\n")

    with pytest.raises(InvalidConfig, match=r"template_config\.graph") as refused:
        made(CustomTemplate, ScriptedModels(), graph="failing:build")

    assert why in str(refused.value)


@pytest.mark.parametrize("graph", ["", "a.b", "a:b:c", "a b:c", ".a:b", "a/b:c", "a:b()", "../a:b"])
def test_only_an_import_path_is_taken(graph: str) -> None:
    assert "graph: String should match pattern" in refusal(graph)


def test_the_files_of_a_template_folder_can_be_named(write: Write, tmp_path: Path) -> None:
    write("in_a_folder", FIXED)
    forbid_folder(tmp_path)

    assert "neither in an installed package" in refusal("in_a_folder:builder")
    TemplateFolder(tmp_path, TemplateRegistry(ScriptedTools())).sync()

    assert CustomTemplate.validate_config({"graph": "in_a_folder:builder"}).valid


def test_a_graph_has_to_be_named() -> None:
    problems = CustomTemplate.validate_config({}).errors

    assert [(each.path, each.message) for each in problems] == [("graph", "This field is required")]
