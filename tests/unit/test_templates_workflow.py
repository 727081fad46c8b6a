import asyncio
from contextlib import aclosing

import pytest

from runtime.domain.errors import InvalidConfig, StepFailed
from runtime.domain.events.runs import StepStarted, TextDelta, ToolCalled, ToolReturned
from runtime.infrastructure.frameworks.langgraph.templates.workflow import (
    WorkflowTemplate,
    label_in,
)
from tests.fakes_models import (
    ScriptedModels,
    ScriptedTools,
    asks,
    events_of,
    made,
    says,
    steps_of,
    text_of,
)

Json = dict[str, object]


def prompt(id: str, *following: str) -> Json:
    return {"id": id, "kind": "prompt", "instruction": f"Do {id}.", "next": list(following)}


def route(id: str, **more: object) -> Json:
    return {"id": id, "kind": "route", "instruction": f"Choose in {id}."} | more


def tool(id: str, name: str, *following: str, **more: object) -> Json:
    return {"id": id, "kind": "tool", "tool": name, "next": list(following)} | more


def text(id: str, said: str, *following: str) -> Json:
    return {"id": id, "kind": "text", "text": said, "next": list(following)}


def by_node(*ids: str, **others: str) -> ScriptedModels:
    """A model that says in each node what the node is called."""
    replies = {f"Do {id}.": says(f"<{id}>") for id in ids}
    replies |= {f"Choose in {id}.": says(label) for id, label in others.items()}
    return ScriptedModels(by_prompt=replies)


def order(marks: list[str]) -> list[str]:
    return [mark[1:] for mark in marks if mark[0] == "+"]


async def test_nodes_run_one_after_the_other_and_only_the_last_is_heard() -> None:
    models = by_node("a", "b", "c")
    agent = made(WorkflowTemplate, models, nodes=[prompt("a", "b"), prompt("b", "c"), prompt("c")])

    events = await events_of(agent, asks("Go"))

    assert text_of(events) == "<c>"
    assert steps_of(events) == ["+a", "-a", "+b", "-b", "+c", "-c"]
    assert '<result of="a">\n<a>\n</result>' in models.prompt(2)
    assert "<result" not in models.prompt(0)


async def test_branches_run_side_by_side_and_the_answer_waits_for_both() -> None:
    one, two = asyncio.Event(), asyncio.Event()
    models = ScriptedModels(
        by_prompt={
            "Do end.": says("done"),
            "Do a.": [one, *says("<a>")],
            "Do b.": [two, *says("<b>")],
            "Do start.": says("<start>"),
        }
    )
    nodes = [prompt("start", "a", "b"), prompt("a", "end"), prompt("b", "end"), prompt("end")]
    agent = made(WorkflowTemplate, models, nodes=nodes)

    begun: list[str] = []
    async with aclosing(agent.stream_execute(asks("Go"))) as events:
        async for event in events:
            if isinstance(event, StepStarted):
                begun.append(event.name)
                if {"a", "b"} <= set(begun):
                    one.set()
                    two.set()

    assert sorted(begun) == ["a", "b", "end", "start"]
    assert "<a>" in models.prompt(3)
    assert "<b>" in models.prompt(3)


async def test_a_join_waits_for_the_longer_branch_and_runs_once() -> None:
    models = by_node("start", "a", "b1", "b2", "b3", "end")
    nodes = [
        prompt("start", "a", "b1", "end"),
        prompt("a", "end"),
        prompt("b1", "b2"),
        prompt("b2", "b3"),
        prompt("b3", "end"),
        prompt("end"),
    ]

    events = await events_of(made(WorkflowTemplate, models, nodes=nodes), asks("Go"))

    assert order(steps_of(events)) == ["start", "a", "b1", "b2", "b3", "end"]
    assert text_of(events) == "<end>"
    last = models.prompt(-1)
    assert all(f'<result of="{id}">' in last for id in ("start", "a", "b1", "b2", "b3"))


@pytest.mark.parametrize(("label", "ran"), [("x", ["x1", "x2"]), ("y", ["y"])])
async def test_a_join_behind_a_route_waits_for_those_that_run(label: str, ran: list[str]) -> None:
    nodes = [
        prompt("start", "choice", "side"),
        route("choice", routes={"x": "x1", "y": "y"}, default="y"),
        prompt("x1", "x2"),
        prompt("x2", "end"),
        prompt("y", "end"),
        prompt("side", "end"),
        prompt("end"),
    ]
    models = by_node("start", "side", "x1", "x2", "y", "end", choice=label)

    events = await events_of(made(WorkflowTemplate, models, nodes=nodes), asks("Go"))

    assert order(steps_of(events)) == ["start", "choice", "side", *ran, "end"]
    assert text_of(events) == "<end>"


async def test_a_node_does_not_see_a_branch_that_does_not_lead_to_it() -> None:
    nodes = [
        prompt("start", "a", "b"),
        prompt("a", "a2"),
        prompt("a2", "end"),
        prompt("b", "end"),
        prompt("end"),
    ]
    models = by_node("start", "a", "a2", "b", "end")

    await made(WorkflowTemplate, models, nodes=nodes).execute(asks("Go"))

    seen = next(models.prompt(i) for i in range(5) if "Do a2." in models.prompt(i))
    assert '<result of="a">' in seen
    assert '<result of="b">' not in seen


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("billing", "bill"),
        ("  **Billing**.\n", "bill"),
        ('{"route": "billing"}', "bill"),
        ("I would choose: refund status", "status"),
        ("refund", "refund"),
        ("either billing or refund", "other"),
        ("no idea", "other"),
        ("", "other"),
    ],
)
async def test_the_model_chooses_a_route_however_it_wraps_the_label(said: str, chosen: str) -> None:
    routes = {"billing": "bill", "refund": "refund", "refund status": "status", "else": "other"}
    nodes = [
        route("choice", routes=routes, default="else"),
        *(text(target, target) for target in routes.values()),
    ]
    models = ScriptedModels(says(said))

    answer = await made(WorkflowTemplate, models, nodes=nodes).execute(asks("Go"))

    assert answer.text == chosen


def test_a_label_is_no_part_of_a_longer_word() -> None:
    assert label_in("nothing", ["no", "yes"]) is None


async def test_rules_choose_before_the_model_is_asked() -> None:
    nodes = [
        route(
            "choice",
            routes={"person": "p", "bot": "b"},
            default="bot",
            rules=[{"words": ["HUMAN", "agent"], "route": "person"}],
        ),
        text("p", "One moment."),
        text("b", "I'm a bot."),
    ]
    models = ScriptedModels(says("bot"))
    agent = made(WorkflowTemplate, models, nodes=nodes)

    by_rule = await agent.execute(asks("old talk", "A human please"))
    by_model = await agent.execute(asks("Hi"))

    assert (by_rule.text, by_model.text) == ("One moment.", "I'm a bot.")
    assert len(models.calls) == 1


async def test_without_instruction_only_rules_choose() -> None:
    nodes = [
        route("choice", routes={"a": "x"}, default="a", instruction=""),
        text("x", "Fixed {not} %s a template"),
    ]

    answer = await made(WorkflowTemplate, ScriptedModels(), nodes=nodes).execute(asks("Hi"))

    assert answer.text == "Fixed {not} %s a template"


async def test_a_tool_takes_its_arguments_from_where_the_node_says() -> None:
    tools = ScriptedTools(lookup="found")
    arguments = [
        {"name": "limit", "value": 3},
        {"name": "question", "source": "input"},
        {"name": "query", "source": "node", "node": "terms"},
    ]
    nodes = [
        prompt("terms", "find"),
        tool("find", "lookup", "end", arguments=arguments),
        prompt("end"),
    ]
    models = by_node("terms", "end")

    events = await events_of(made(WorkflowTemplate, models, tools, nodes=nodes), asks("Where?"))

    expected = '{"limit":3,"question":"Where?","query":"<terms>"}'
    assert tools.called == [("lookup", expected)]
    assert [type(e) for e in events if isinstance(e, ToolCalled | ToolReturned)] == [
        ToolCalled,
        ToolReturned,
    ]
    assert '<result of="find">\nfound\n</result>' in models.prompt(1)


async def test_a_tools_result_can_be_the_answer() -> None:
    node = tool("sum", "calculator", arguments=[{"name": "expression", "source": "input"}])

    events = await events_of(made(WorkflowTemplate, ScriptedModels(), nodes=[node]), asks("6*7"))

    assert [e for e in events if isinstance(e, TextDelta)] == [TextDelta("42")]


async def test_a_failing_tool_ends_the_run() -> None:
    node = tool("sum", "calculator", arguments=[{"name": "expression", "source": "input"}])
    agent = made(WorkflowTemplate, ScriptedModels(), nodes=[node])

    with pytest.raises(StepFailed, match="'sum' failed after 1 try: Division by zero"):
        await agent.execute(asks("1/0"))


async def test_a_tool_that_may_fail_is_read_about_by_later_nodes() -> None:
    tools = ScriptedTools(lookup=asyncio.Event())
    nodes = [tool("find", "lookup", "end", on_error="continue"), prompt("end")]
    models = by_node("end")
    agent = made(WorkflowTemplate, models, tools, nodes=nodes, tool_timeout_s=0.001)

    answer = await agent.execute(asks("Go"))

    assert answer.text == "<end>"
    assert "took more than 0.001 s" in models.prompt(0)


async def test_the_default_workflow_weighs_what_deserves_it() -> None:
    models = ScriptedModels(
        says("weigh"), says("outline"), says("pro"), says("contra"), says("verdict")
    )

    events = await events_of(made(WorkflowTemplate, models), asks("Shall we?"))

    ran = order(steps_of(events))
    assert ran == ["triage", "outline", "arguments", "objections", "conclusion"]
    assert text_of(events) == "verdict"


@pytest.mark.parametrize(
    ("nodes", "path", "why"),
    [
        ([], "nodes", "at least 1 item"),
        ([prompt("a", "x")], "nodes.0.next.0", "no node 'x'"),
        ([prompt("a"), prompt("a")], "nodes.1.id", "another node named 'a'"),
        ([prompt("a"), prompt("b")], "nodes.1", "Nothing leads to 'b'"),
        ([prompt("a", "b"), prompt("b", "a")], "nodes.0", "circle: a → b → a"),
        ([prompt("a", "a")], "nodes.0", "circle: a → a"),
        ([prompt("a", "b", "c"), prompt("b"), prompt("c")], "nodes.2", "may both run"),
        (
            [route("r", routes={"x": "t"}, default="y"), text("t", "T")],
            "nodes.0.default",
            "no route 'y'",
        ),
        ([route("r", routes={"x": "t"}, default="x")], "nodes.0.routes.x", "no node 't'"),
        (
            [
                route(
                    "r",
                    routes={"x": "t"},
                    default="x",
                    rules=[{"words": ["w"], "route": "z"}],
                ),
                text("t", "T"),
            ],
            "nodes.0.rules.0.route",
            "no route 'z'",
        ),
        (
            [tool("t", "calculator", arguments=[{"name": "x", "source": "node"}])],
            "nodes.0.arguments.0.node",
            "whose result",
        ),
        (
            [
                tool(
                    "t",
                    "calculator",
                    "e",
                    arguments=[{"name": "x", "source": "node", "node": "e"}],
                ),
                prompt("e"),
            ],
            "nodes.0.arguments.0.node",
            "does not run before",
        ),
        ([{"id": "a", "kind": "code"}], "nodes.0.kind", "no such choice"),
        ([{"id": "a"}], "nodes.0.kind", "required"),
        ([{"id": "a", "kind": "prompt"}], "nodes.0.instruction", "required"),
        ([prompt("a") | {"text": "x"}], "nodes.0.text", "no such field"),
        ([prompt("_a")], "nodes.0.id", "pattern"),
    ],
)
def test_a_wrong_workflow_is_refused_by_its_path(nodes: list[Json], path: str, why: str) -> None:
    result = WorkflowTemplate.validate_config({"nodes": nodes})

    assert [problem.path for problem in result.errors] == [path]
    assert why.lower() in result.errors[0].message.lower()


def test_two_ends_are_fine_when_one_route_leads_to_each() -> None:
    nodes = [
        prompt("start", "a", "b"),
        prompt("a", "choice"),
        prompt("b", "choice"),
        route("choice", routes={"x": "t1", "y": "t2"}, default="x"),
        prompt("t1"),
        prompt("t2"),
    ]

    assert WorkflowTemplate.validate_config({"nodes": nodes}).valid


def test_two_routes_that_may_end_differently_at_once_are_refused() -> None:
    nodes = [
        prompt("start", "r1", "r2"),
        route("r1", routes={"x": "t1", "y": "t2"}, default="x"),
        route("r2", routes={"x": "t1", "y": "t2"}, default="x"),
        prompt("t1"),
        prompt("t2"),
    ]

    assert not WorkflowTemplate.validate_config({"nodes": nodes}).valid


def test_the_tools_of_the_nodes_are_what_is_granted() -> None:
    nodes = [tool("sum", "launch")]
    config = WorkflowTemplate.Config.model_validate({"nodes": nodes})

    assert WorkflowTemplate.granted_tools(config) == {"nodes.0.tool": "launch"}
    with pytest.raises(InvalidConfig, match=r"nodes\.0\.tool"):
        made(WorkflowTemplate, ScriptedModels(), nodes=nodes)
