"""Every built-in template, with the demo model and over the wire, streaming and not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN_GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph


def build(model) -> StateGraph:
    async def respond(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node(respond).add_edge(START, "respond")
"""

WORKFLOW = {
    "nodes": [
        {"id": "read", "kind": "prompt", "instruction": "Read it.", "next": ["facts", "mood"]},
        {"id": "facts", "kind": "prompt", "instruction": "List facts.", "next": ["reply"]},
        {"id": "mood", "kind": "prompt", "instruction": "Guess the mood.", "next": ["reply"]},
        {"id": "reply", "kind": "prompt", "instruction": "Answer."},
    ],
}

AGENTS: dict[str, Json] = {
    "langgraph-simple-test": {},
    "customer-service-bot": {},
    "task-agent": {},
    "react-agent": {},
    "workflow-agent": WORKFLOW,
    "custom-agent": {"graph": "own_graph:build"},
}
STEPS = {
    "langgraph-simple-test": {"answer"},
    "task-agent": {"plan", "draft", "answer"},
    "workflow-agent": {"read", "facts", "mood", "reply"},
    "custom-agent": {"respond"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["demo", "openai"])
async def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "own_graph.py").write_text(OWN_GRAPH)
    async with FakeUpstream() as upstream:
        wire: dict[str, Any] = {"openai_base_url": upstream.base_url, "openai_api_key": "k"}
        options = wire if request.param == "openai" else {}
        async with serving(folder, template_dirs=[folder], **options) as served:
            for template, config in AGENTS.items():
                await served.publish(name=template, template_id=template, template_config=config)
            yield served


def asked(template: str, text: str, **options: Any) -> Json:  # noqa: ANN401
    return {"model": template, "messages": [{"role": "user", "content": text}], **options}


@pytest.mark.parametrize("template", AGENTS)
async def test_it_answers_streaming_and_not_and_shows_its_steps(
    runtime: Served, template: str
) -> None:
    whole = await runtime.post("/v1/chat/completions", asked(template, "Hello out there"))
    text = whole["choices"][0]["message"]["content"]
    steps = {step["name"] for step in whole["metadata"]["execution_steps"]}

    assert text
    assert steps >= STEPS.get(template, set())
    assert all(step["status"] == "success" for step in whole["metadata"]["execution_steps"])
    assert whole["usage"]["total_tokens"] > 0
    assert text == await streamed(runtime, template, "Hello out there")


async def streamed(runtime: Served, template: str, text: str) -> str:
    stream = await runtime.openai.chat.completions.create(**asked(template, text), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_the_react_agent_calls_its_tools_and_keeps_them_to_itself(runtime: Served) -> None:
    text = 'Please use the calculator: {"expression": "6 * 7"} for 6 * 7'
    answer = await runtime.post("/v1/chat/completions", asked("react-agent", text))
    (choice,) = answer["choices"]

    assert answer["metadata"]["tools_used"] == ["calculator"]
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    run = await runtime.get(f"/v1/runs/{answer['metadata']['run_id']}")
    assert [(tool["name"], tool["status"]) for tool in run["tools"]] == [("calculator", "success")]


async def test_the_react_agent_gives_the_caller_s_tools_back(runtime: Served) -> None:
    tool = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}
    answer = await runtime.post(
        "/v1/chat/completions", asked("react-agent", "please lookup this", tools=[tool])
    )
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "lookup"
    assert answer["metadata"]["tools_used"] == []


async def test_a_caller_s_tool_may_not_shadow_a_granted_one(runtime: Served) -> None:
    tool = {"type": "function", "function": {"name": "calculator"}}
    refused = await runtime.post(
        "/v1/chat/completions", asked("react-agent", "2 + 2", tools=[tool]), status=400
    )
    assert refused["error"]["param"] == "tools"


async def test_what_a_template_can_not_honour_is_refused_by_name(runtime: Served) -> None:
    tool = {"type": "function", "function": {"name": "lookup"}}
    refused = await runtime.post(
        "/v1/chat/completions", asked("task-agent", "x", tools=[tool]), status=400
    )
    assert (refused["error"]["code"], refused["error"]["param"]) == (
        "unsupported_parameter",
        "tools",
    )


async def test_nobody_reaches_code_through_an_import_path(runtime: Served) -> None:
    for path in ("os:system", "subprocess:Popen", "runtime.main:main", "own_graph:nothing", "x"):
        body = {
            "name": "evil",
            "template_id": "custom-agent",
            "template_config": {"graph": path},
        }
        refused = await runtime.post("/v1/agents", body, status=422)
        assert refused["details"]["param"] == "template_config.graph", path
