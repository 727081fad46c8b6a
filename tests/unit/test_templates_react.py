import asyncio
from contextlib import aclosing, suppress

import pytest

from runtime.domain.errors import InvalidConfig, InvalidValue, IterationLimit
from runtime.domain.events.runs import RunCompleted, ToolCallDelta, ToolCalled, ToolReturned
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    Message,
    ToolCall,
    ToolSpec,
)
from runtime.infrastructure.frameworks.langgraph.templates.react import ReactTemplate
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

WEATHER = GenerationOptions(tools=(ToolSpec("weather", "The weather."),))


async def test_a_tool_is_called_and_its_result_read_before_the_answer() -> None:
    models = ScriptedModels(calls(("calculator", '{"expression": "6*7"}')), says("It is ", "42."))
    agent = made(ReactTemplate, models)

    events = await events_of(agent, asks("What is 6*7?"))

    assert text_of(events) == "It is 42."
    assert steps_of(events) == ["+model", "-model", "+tools", "-tools", "+model", "-model"]
    called = next(event for event in events if isinstance(event, ToolCalled))
    assert (called.name, called.arguments) == ("calculator", '{"expression":"6*7"}')
    returned = next(event for event in events if isinstance(event, ToolReturned))
    assert (returned.call_id, returned.status, returned.output) == (called.call_id, "success", "42")
    assert events[-1] == RunCompleted("stop")
    assert models.calls[1].messages[-1] == Message(ChatRole.TOOL, "42", tool_call_id="call_0")


async def test_the_model_is_offered_the_granted_tools_only() -> None:
    models = ScriptedModels(says("Hi"))
    agent = made(ReactTemplate, models, tools=["current_time"])

    await agent.execute(asks("Hi"))

    assert [tool.name for tool in models.calls[0].options.tools] == ["current_time"]


async def test_calls_of_one_round_run_at_the_same_time() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    tools = ScriptedTools(a=first, b=second)
    agent = made(
        ReactTemplate,
        ScriptedModels(calls(("a", "{}"), ("b", "{}")), says("Done")),
        tools,
        tools=["a", "b"],
    )

    marks: list[str] = []
    async with aclosing(agent.stream_execute(asks("Go"))) as events:
        async for event in events:
            if isinstance(event, ToolCalled):
                marks.append(f"+{event.name}")
                if len(marks) == 2:
                    second.set()
            elif isinstance(event, ToolReturned):
                marks.append(f"-{event.name}")
                first.set()

    assert marks == ["+a", "+b", "-b", "-a"]


async def test_calls_can_be_made_one_after_the_other() -> None:
    tools = ScriptedTools(a="1", b="2")
    models = ScriptedModels(calls(("a", "{}"), ("b", "{}")), says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a", "b"], parallel=False)

    events = await events_of(agent, asks("Go"))

    told = [type(event) for event in events if isinstance(event, ToolCalled | ToolReturned)]
    assert told == [ToolCalled, ToolReturned, ToolCalled, ToolReturned]


async def test_a_failing_tool_is_a_result_without_its_details() -> None:
    tools = ScriptedTools(a=RuntimeError("secret detail"))
    models = ScriptedModels(calls(("a", "{}")), says("Sorry"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    events = await events_of(agent, asks("Go"))

    returned = next(event for event in events if isinstance(event, ToolReturned))
    assert (returned.status, returned.output) == ("error", "The tool 'a' failed.")
    assert models.calls[1].messages[-1].text == "The tool 'a' failed."
    assert text_of(events) == "Sorry"


async def test_a_tool_that_takes_too_long_is_a_result() -> None:
    tools = ScriptedTools(a=asyncio.Event())
    models = ScriptedModels(calls(("a", "{}")), says("Sorry"))
    agent = made(ReactTemplate, models, tools, tools=["a"], tool_timeout_s=0.001)

    answer = await agent.execute(asks("Go"))

    assert "took more than 0.001 s" in models.calls[1].messages[-1].text
    assert answer.text == "Sorry"


async def test_a_tool_that_is_not_granted_is_never_executed() -> None:
    tools = ScriptedTools(a="1", forbidden="2")
    models = ScriptedModels(calls(("forbidden", "{}")), says("Sorry"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    events = await events_of(agent, asks("Go"))

    assert tools.called == []
    assert not [event for event in events if isinstance(event, ToolCalled)]
    assert models.calls[1].messages[-1].text == (
        "There is no tool 'forbidden'. The tools there are: a."
    )


@pytest.mark.parametrize("arguments", ['{"x": 1', "[1]", "null"])
async def test_a_call_whose_arguments_are_no_json_object_is_never_executed(arguments: str) -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", arguments)), says("Sorry"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    answer = await agent.execute(asks("Go"))

    assert tools.called == []
    assert "not a complete JSON object" in models.calls[1].messages[-1].text
    assert answer.text == "Sorry"


async def test_a_call_that_the_token_limit_cut_off_is_never_executed() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}"), finish="length", text="Let me"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    answer = await agent.execute(asks("Go"))

    assert tools.called == []
    assert (answer.text, answer.finish_reason) == ("Let me", "length")


async def test_the_callers_tools_come_back_as_calls_and_end_the_run() -> None:
    models = ScriptedModels(calls(("weather", '{"city": "Paris"}')))
    agent = made(ReactTemplate, models)

    answer = await agent.execute(asks("Weather?", options=WEATHER))

    assert answer.tool_calls == [ToolCall("call_0", "weather", '{"city": "Paris"}')]
    assert answer.finish_reason == "tool_calls"
    offered = [tool.name for tool in models.calls[0].options.tools]
    assert offered == ["calculator", "current_time", "weather"]


async def test_with_a_call_to_the_caller_none_of_the_agents_own_is_executed() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}"), ("weather", "{}")))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    events = await events_of(agent, asks("Weather?", options=WEATHER))

    assert tools.called == []
    shown = [event for event in events if isinstance(event, ToolCallDelta)]
    assert {(event.index, event.name) for event in shown} == {(0, "weather"), (0, "")}
    assert events[-1] == RunCompleted("tool_calls")


async def test_the_agents_own_calls_are_not_shown_to_the_caller() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}")), says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    answer = await agent.execute(asks("Go", options=WEATHER))

    assert (answer.tool_calls, answer.finish_reason, answer.text) == ([], "stop", "Done")


async def test_a_forced_call_is_forced_in_the_first_round_only() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}")), says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    await agent.execute(asks("Go", options=GenerationOptions(tool_choice="required")))

    assert [call.options.tool_choice for call in models.calls] == ["required", None]


async def test_a_callers_tool_must_not_have_the_name_of_a_granted_one() -> None:
    models = ScriptedModels()
    agent = made(ReactTemplate, models)
    options = GenerationOptions(tools=(ToolSpec("calculator"),))

    with pytest.raises(InvalidValue, match="'calculator'") as refused:
        await agent.execute(asks("Go", options=options))

    assert refused.value.param == "tools"
    assert models.calls == []


async def test_a_model_that_never_answers_is_stopped_after_its_rounds() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(*[calls(("a", "{}"))] * 3)
    agent = made(ReactTemplate, models, tools, tools=["a"], max_iterations=3)

    with pytest.raises(IterationLimit, match="3 rounds"):
        await agent.execute(asks("Go"))

    assert (len(models.calls), len(tools.called)) == (3, 2)


async def test_an_answer_in_the_last_round_is_an_answer() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(*[calls(("a", "{}"))] * 2, says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a"], max_iterations=3)

    assert (await agent.execute(asks("Go"))).text == "Done"


async def test_what_is_said_before_a_tool_call_is_set_apart_from_the_answer() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}"), text="Let me look."), says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a"])

    assert (await agent.execute(asks("Go"))).text == "Let me look.\n\nDone"


async def test_a_short_history_never_loses_the_question_during_the_loop() -> None:
    tools = ScriptedTools(a="1")
    models = ScriptedModels(calls(("a", "{}")), calls(("a", "{}")), says("Done"))
    agent = made(ReactTemplate, models, tools, tools=["a"], history_messages=1)

    await agent.execute(asks("Old", "Question"))

    assert "Question" in models.prompt(2)
    assert "Old" not in models.prompt(0)


async def test_cancelling_the_run_stops_a_tool_and_the_model() -> None:
    tools = ScriptedTools(a=asyncio.Event())
    models = ScriptedModels(calls(("a", "{}")))
    agent = made(ReactTemplate, models, tools, tools=["a"])
    called = asyncio.Event()

    async def emit(event: object) -> None:
        if isinstance(event, ToolCalled):
            called.set()

    task = asyncio.create_task(agent.run(asks("Go"), emit))
    await called.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert (models.closed, len(models.calls)) == (1, 1)


def test_a_tool_that_is_gone_makes_the_configuration_invalid() -> None:
    with pytest.raises(InvalidConfig, match="tools"):
        made(ReactTemplate, ScriptedModels(), tools=["nothing"])


async def test_without_any_tool_it_just_answers() -> None:
    models = ScriptedModels(says("Hi"))

    answer = await made(ReactTemplate, models, tools=[]).execute(asks("Hi"))

    assert answer.text == "Hi"
    assert models.calls[0].options.tools == ()
