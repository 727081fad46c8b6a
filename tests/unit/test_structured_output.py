"""Answers in the JSON that was asked for, from instances and models that do as they are told."""

from collections.abc import Sequence
from typing import Any

import pytest

from runtime.application.services.structured_output import StructuredOutput
from runtime.domain.errors import (
    ExecutionFailed,
    InvalidJsonSchema,
    InvalidStructuredOutput,
    UpstreamFailed,
)
from runtime.domain.events.runs import (
    RefusalDelta,
    RunCompleted,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    UsageReported,
)
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    Message,
    TextPart,
    Usage,
)
from runtime.infrastructure.providers.formats import put_into_words
from runtime.infrastructure.schemas import JsonSchemaCompiler
from tests.contracts.samples import a_line, a_version
from tests.fakes_models import Reply, ScriptedModels, asks, says
from tests.fakes_runs import Script, ScriptedInstance

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
OBJECT = {"type": "json_object"}
SPENT = UsageReported(Usage(3, 2), "m")


def emitting(*events: RunEvent) -> Script:
    async def script(_: RunInput, emit: Emit) -> None:
        for event in events:
            await emit(event)

    return script


def writing(*pieces: str) -> Script:
    return emitting(*(TextDelta(piece) for piece in pieces), SPENT)


async def shaped(
    script: Script,
    *replies: Reply,
    form: dict[str, Any] = FORM,
    obedient: bool = False,
    stream: bool = True,
    models: ScriptedModels | None = None,
    **options: Any,  # noqa: ANN401 - as in GenerationOptions
) -> list[RunEvent]:
    asked = GenerationOptions(response_format=form, **options)
    instance = ScriptedInstance(script, obedient=obedient)
    output = StructuredOutput(models or ScriptedModels(*replies), JsonSchemaCompiler())
    run = output.asked(a_version(a_line()), instance, asked)
    assert run is not None
    events: list[RunEvent] = []

    async def emit(event: RunEvent) -> None:
        events.append(event)

    try:
        await run.run(asks("Count.", options=asked, stream=stream), emit)
    except InvalidStructuredOutput as error:
        error.add_note(text_of(events))
        raise
    return events


def text_of(events: Sequence[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def refusal_of(events: Sequence[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, RefusalDelta))


async def test_what_an_obedient_model_writes_streams_as_it_comes() -> None:
    events = await shaped(writing('{"n"', ": 1}"), obedient=True)

    assert events == [TextDelta('{"n"'), TextDelta(": 1}"), SPENT, RunCompleted("stop")]


async def test_what_was_streamed_and_does_not_fit_is_an_error() -> None:
    with pytest.raises(InvalidStructuredOutput, match=r"\$\.n: it is not of type") as error:
        await shaped(writing('{"n": "x"}'), obedient=True)

    assert error.value.__notes__ == ['{"n": "x"}']


async def test_an_obedient_model_that_streamed_nothing_is_asked_again() -> None:
    assert text_of(await shaped(writing(), says('{"n": 2}'), obedient=True)) == '{"n": 2}'


@pytest.mark.parametrize(("obedient", "stream"), [(False, True), (False, False), (True, False)])
async def test_a_good_answer_that_was_held_back_comes_out_as_it_was(
    obedient: bool, stream: bool
) -> None:
    events = await shaped(writing('{"n":', " 1}"), obedient=obedient, stream=stream)

    assert events == [SPENT, TextDelta('{"n":'), TextDelta(" 1}"), RunCompleted("stop")]


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"n": 1}\n```',
        'Here it is:\n\n```\n{"n": 1}\n```\nAnything else?',
        'Sure! {"n": 1} is what you want.',
        '<think>Maybe {"n": 7}?</think>\n{"n": 1}',
        'I used [1] for it.\n{"n": 1}',
        'Use {braces} so:\n{"n": 1}',
        '{"n": 0}\nNo, it is\n{"n": 1}',
        '{"wrong": true}\n{"n": 1}',
    ],
)
async def test_the_json_is_found_among_what_stands_around_it(text: str) -> None:
    assert text_of(await shaped(writing(text))) == '{"n": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I can't.",
        '{"n": "one"}',
        '{"n": NaN}',
        '{"n": 1e999}',
        '{"items": [{"n": 1}, {"n": 2}',
        '{\n  "a": [\n    {"n": 1}\n',
        "[" * 100_000,
    ],
)
async def test_what_can_t_be_used_is_repaired_once(text: str) -> None:
    models = ScriptedModels(says('{"n": 1}'))
    events = await shaped(writing(text), models=models)

    assert text_of(events) == '{"n": 1}'
    assert [type(event) for event in events].count(UsageReported) == 2
    (call,) = models.calls
    assert call.options.response_format == FORM
    assert not call.stream
    said = [message.text for message in call.messages]
    assert said[0] == "Count."
    assert said[1:-1] == ([text] if text else [])
    assert "can't be used" in said[-1]


async def test_the_repair_is_told_what_was_wrong() -> None:
    models = ScriptedModels(says('{"n": 1}'))
    await shaped(writing('{"n": "one"}'), models=models)

    assert '- $.n: it is not of type "integer".' in models.calls[0].messages[-1].text


async def test_the_repair_offers_no_tools_and_keeps_the_limits() -> None:
    models = ScriptedModels(says('{"n": 1}'))
    limits: dict[str, Any] = {"max_tokens": 7, "temperature": 0.5}
    await shaped(writing("x"), models=models, **limits, stop=("}",), logprobs=True)

    assert dict(models.calls[0].options.given()) == {**limits, "response_format": FORM}


async def test_what_is_still_wrong_after_the_repair_is_a_refusal() -> None:
    models = ScriptedModels(says("Still no."), says('{"n": 1}'))
    events = await shaped(writing("No."), models=models)

    assert text_of(events) == ""
    assert refusal_of(events) == (
        "The answer did not come out in the requested JSON: $: it is not valid JSON."
    )
    assert events[-1] == RunCompleted("stop")
    assert len(models.calls) == 1


async def test_a_failing_repair_fails_the_run() -> None:
    with pytest.raises(UpstreamFailed, match="away"):
        await shaped(writing("x"), [UpstreamFailed("It is away.")])


async def test_a_repair_that_is_cut_is_passed_on_as_cut() -> None:
    events = await shaped(writing("x"), says('{"n": ', finish="length"))

    assert text_of(events) == '{"n": '
    assert events[-1] == RunCompleted("length")


async def test_a_model_that_refuses_the_repair_is_heard() -> None:
    events = await shaped(writing("x"), says(then=[RefusalDelta("I won't.")]))

    assert (text_of(events), refusal_of(events)) == ("", "I won't.")


@pytest.mark.parametrize("obedient", [True, False])
@pytest.mark.parametrize(
    "ending",
    [
        [RunCompleted("length")],
        [RunCompleted("content_filter")],
        [RefusalDelta("No."), RunCompleted("stop")],
        [ToolCallDelta(0, "c1", "get", "{}"), RunCompleted("tool_calls")],
    ],
    ids=["length", "content_filter", "refusal", "tool_calls"],
)
async def test_what_is_no_finished_answer_passes_as_it_is(
    ending: list[RunEvent], obedient: bool
) -> None:
    events = await shaped(emitting(TextDelta('{"n'), *ending), obedient=obedient)

    assert text_of(events) == '{"n'
    assert [event for event in events if not isinstance(event, TextDelta)] == ending


async def test_what_is_said_before_a_tool_is_called_is_no_part_of_the_answer() -> None:
    called = ToolCalled("c1", "get", "{}")
    events = await shaped(emitting(TextDelta('{"n": 0}'), called, TextDelta('{"n": 1}')))

    assert events == [called, TextDelta('{"n": 1}'), RunCompleted("stop")]


@pytest.mark.parametrize(("text", "repairs"), [('{"any": [1]}', 0), ("[1]", 1), ("no", 1)])
async def test_a_json_object_is_any_object(text: str, repairs: int) -> None:
    models = ScriptedModels(says("{}"))
    events = await shaped(writing(text), models=models, form=OBJECT)

    assert text_of(events) == ("{}" if repairs else text)
    assert len(models.calls) == repairs


async def test_a_loose_schema_may_ask_for_something_that_is_no_object() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    assert text_of(await shaped(writing("```json\n42\n```"), form=form)) == "42"


def test_nothing_is_done_where_no_format_is_asked_for() -> None:
    output = StructuredOutput(ScriptedModels(), JsonSchemaCompiler())
    agent, instance = a_version(a_line()), ScriptedInstance(writing())

    for form in (None, {"type": "text"}):
        assert output.asked(agent, instance, GenerationOptions(response_format=form)) is None


def test_a_wrong_schema_is_the_caller_s_fault_or_the_agent_s() -> None:
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}}
    options = GenerationOptions(response_format=wrong)
    output = StructuredOutput(ScriptedModels(), JsonSchemaCompiler())
    agent = a_version(a_line())

    with pytest.raises(InvalidJsonSchema):
        output.asked(agent, ScriptedInstance(writing()), options)
    with pytest.raises(ExecutionFailed, match="agent's own response_format"):
        output.asked(agent, ScriptedInstance(writing(), fixed=options), GenerationOptions())


async def test_an_agent_that_fixes_its_format_is_held_to_it() -> None:
    fixed = GenerationOptions(response_format=FORM)
    output = StructuredOutput(ScriptedModels(says('{"n": 1}')), JsonSchemaCompiler())
    run = output.asked(
        a_version(a_line()), ScriptedInstance(writing("x"), fixed=fixed), GenerationOptions()
    )
    events: list[RunEvent] = []

    async def emit(event: RunEvent) -> None:
        events.append(event)

    assert run is not None
    await run.run(asks("Count."), emit)
    assert text_of(events) == '{"n": 1}'


@pytest.mark.parametrize(
    ("form", "supported", "left", "words"),
    [
        (FORM, {"json_schema", "json_object"}, FORM, ""),
        (FORM, {"json_object"}, OBJECT, '"required":["n"]'),
        (FORM, (), None, '"required":["n"]'),
        (OBJECT, (), None, "one JSON object"),
        (OBJECT, {"json_object"}, OBJECT, ""),
        (None, (), None, ""),
    ],
)
def test_a_format_that_a_model_does_not_know_is_put_into_words(
    form: dict[str, Any] | None, supported: set[str], left: dict[str, Any] | None, words: str
) -> None:
    said = Message(ChatRole.USER, "Hi")
    system = Message(ChatRole.SYSTEM, "Be.")
    developer = Message(ChatRole.DEVELOPER, (TextPart("Be."),))
    for first in ([], [system], [developer]):
        call = ModelCall(None, [*first, said], GenerationOptions(response_format=form))
        changed = put_into_words(call, supported)

        assert changed.options.response_format == left
        if words:
            assert words in changed.messages[0].text
            assert changed.messages[0].text.startswith("Be." if first else "Your final answer")
            assert list(changed.messages[1:]) == [said]
        else:
            assert changed is call
