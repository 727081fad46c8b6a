import asyncio

import pytest

from runtime.domain.errors import StepFailed, UpstreamAuthFailed, UpstreamFailed
from runtime.domain.events.runs import RunEvent, StepFinished, TextDelta
from runtime.domain.value_objects.chat import GenerationOptions
from runtime.infrastructure.frameworks.langgraph.templates.task import TaskTemplate
from tests.fakes_models import (
    ScriptedModels,
    asks,
    events_of,
    failing,
    made,
    says,
    steps_of,
    text_of,
)


class Hasty(TaskTemplate):
    first_pause_s = 0


def attempts(events: list[RunEvent]) -> list[int]:
    return [event.attempts for event in events if isinstance(event, StepFinished)]


def step(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "instruction": f"Do {name}."} | more


async def test_steps_run_in_order_and_only_the_last_one_is_heard() -> None:
    models = ScriptedModels(says("the plan"), says("the draft"), says("the ", "answer"))

    events = await events_of(made(Hasty, models), asks("Task"))

    assert [e.text for e in events if isinstance(e, TextDelta)] == ["the ", "answer"]
    assert steps_of(events) == ["+plan", "-plan", "+draft", "-draft", "+answer", "-answer"]
    assert attempts(events) == [1, 1, 1]


async def test_a_step_sees_what_earlier_ones_made() -> None:
    models = ScriptedModels(says("the plan"), says("the draft"), says("the answer"))

    await made(Hasty, models).execute(asks("Task"))

    assert "<result of=" not in models.prompt(0)
    assert '<result of="plan">\nthe plan\n</result>' in models.prompt(1)
    assert '<result of="draft">\nthe draft\n</result>' in models.prompt(2)
    assert all("Task" in models.prompt(index) for index in range(3))


async def test_the_callers_limits_hold_for_the_answer_only() -> None:
    models = ScriptedModels(*[says("x")] * 3)

    await made(Hasty, models).execute(asks("Task", options=GenerationOptions(max_tokens=5)))

    assert [call.options.max_tokens for call in models.calls] == [None, None, 5]


async def test_a_failed_try_is_repeated_and_counted() -> None:
    models = ScriptedModels([UpstreamFailed("down")], says("plan"), says("draft"), says("done"))

    events = await events_of(made(Hasty, models), asks("Task"))

    assert text_of(events) == "done"
    assert attempts(events) == [2, 1, 1]


async def test_a_provider_that_stays_down_is_reported_as_such() -> None:
    models = ScriptedModels(*[[UpstreamFailed("down")]] * 2)

    with pytest.raises(UpstreamFailed, match="down"):
        await made(Hasty, models).execute(asks("Task"))

    assert len(models.calls) == 2


async def test_what_can_never_succeed_is_not_tried_again() -> None:
    models = ScriptedModels([UpstreamAuthFailed("key")])

    with pytest.raises(UpstreamAuthFailed):
        await made(Hasty, models).execute(asks("Task"))

    assert len(models.calls) == 1


async def test_a_step_that_takes_too_long_is_stopped_and_fails() -> None:
    models = ScriptedModels(*[[asyncio.Event()]] * 3)
    agent = made(Hasty, models, steps=[step("only", timeout_s=0.001, retries=2)])

    with pytest.raises(StepFailed, match=r"'only' failed after 3 tries: It took more than 0\.001"):
        await agent.execute(asks("Task"))

    assert models.closed == 3


async def test_once_text_was_sent_a_step_is_not_repeated() -> None:
    models = ScriptedModels([TextDelta("Hel"), UpstreamFailed("cut")], says("Hello"))
    agent = made(Hasty, models, steps=[step("only", retries=5)])

    with pytest.raises(UpstreamFailed, match="cut"):
        await agent.execute(asks("Task"))

    assert len(models.calls) == 1


async def test_a_step_that_may_fail_is_noted_and_the_run_goes_on() -> None:
    models = ScriptedModels([UpstreamFailed("down")], says("done"))
    steps = [step("facts", retries=0, on_error="continue"), step("answer")]

    answer = await made(Hasty, models, steps=steps).execute(asks("Task"))

    assert answer.text == "done"
    assert "This step failed: down" in models.prompt(1)


async def test_json_that_does_not_parse_is_asked_for_again() -> None:
    models = ScriptedModels(
        says("Sure! {"), says('```json\n{"a": 1}\n```'), says('{"a": 1, "b": 2}'), says("done")
    )
    data = step("data", output="json", fields=["a", "b"], retries=2)

    events = await events_of(made(Hasty, models, steps=[data, step("answer")]), asks("Task"))

    assert attempts(events) == [3, 1]
    assert "no valid JSON" in models.prompt(1)
    assert "Sure! {" in models.prompt(1)
    assert "lacks the fields b" in models.prompt(2)
    assert text_of(events) == "done"


async def test_json_that_never_parses_fails_the_step() -> None:
    models = ScriptedModels(says("[1]"))
    data = step("data", output="json", fields=["a"], retries=0)

    with pytest.raises(StepFailed, match="'data' failed after 1 try: The result is no JSON object"):
        await made(Hasty, models, steps=[data, step("answer")]).execute(asks("Task"))


async def test_a_json_answer_that_does_not_parse_is_no_finished_answer() -> None:
    models = ScriptedModels(says("oops"))
    agent = made(Hasty, models, steps=[step("only", output="json", retries=3)])

    seen, error = await failing(agent, asks("Task"))

    assert "'only' failed after 1 try" in str(error)
    assert steps_of(seen) == ["+only", "!only"]


@pytest.mark.parametrize("name", ["results", "conversation", "Schritt 1", "要約"])
async def test_steps_may_have_any_ordinary_name(name: str) -> None:
    models = ScriptedModels(says("done"))

    events = await events_of(made(Hasty, models, steps=[step(name)]), asks("Task"))

    assert steps_of(events) == [f"+{name}", f"-{name}"]


@pytest.mark.parametrize(
    ("steps", "path", "why"),
    [
        ([], "steps", "at least 1 item"),
        ([step("a"), step("a")], "steps.1.name", "another step"),
        ([step("a", on_error="continue")], "steps.0.on_error", "no answer"),
        ([step("a", fields=["x"])], "steps.0.fields", "json"),
        ([step("a:b")], "steps.0.name", "pattern"),
        ([step("a", timeout_s=0)], "steps.0.timeout_s", "greater than 0"),
        ([step("a", output="xml")], "steps.0.output", "'text' or 'json'"),
        ([step("a", retry=1)], "steps.0.retry", "no such field"),
    ],
)
def test_a_wrong_step_is_refused_by_its_path(steps: object, path: str, why: str) -> None:
    result = TaskTemplate.validate_config({"steps": steps})

    assert [problem.path for problem in result.errors] == [path]
    assert why in result.errors[0].message


def test_what_a_task_can_not_honour_is_said_by_name() -> None:
    assert set(TaskTemplate.unsupported_options) == {"tools", "tool_choice", "parallel_tool_calls"}
