"""The embedded model: the rules that docs/models.md promises."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.domain.errors import UpstreamRefused
from runtime.domain.events.runs import TextDelta, ToolCallDelta, UsageReported
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolSpec,
    Usage,
)
from tests.providers import demo

EXPRESSION = {
    "type": "object",
    "properties": {"expression": {"type": "string"}},
    "required": ["expression"],
}
CALCULATOR = ToolSpec("calculator", "", EXPRESSION)
CLOCK = ToolSpec("current_time", "", {"type": "object", "properties": {"zone": {}}})


def user(text: str) -> Message:
    return Message(ChatRole.USER, text)


def assistant(text: str = "…") -> Message:
    return Message(ChatRole.ASSISTANT, text)


async def events_of(
    messages: Sequence[Message], options: GenerationOptions | None = None, *, stream: bool = True
) -> list[ModelEvent]:
    call = ModelCall(None, messages, options or GenerationOptions(), stream=stream)
    return [event async for event in demo().stream(call, "demo")]


async def says(*messages: Message, options: GenerationOptions | None = None) -> str:
    events = await events_of(messages, options)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def calls(
    text: str,
    *tools: ToolSpec,
    choice: str | None = None,
    parallel: bool | None = None,
) -> list[tuple[str, Any]]:
    """Names and parsed arguments."""
    asked = GenerationOptions(tools=tools, tool_choice=choice, parallel_tool_calls=parallel)
    names: list[str] = []
    arguments: list[str] = []
    for event in await events_of([user(text)], asked):
        if isinstance(event, ToolCallDelta):
            if event.name:
                names.append(event.name)
                arguments.append("")
            arguments[event.index] += event.arguments
    return list(zip(names, map(json.loads, arguments), strict=True))


async def fills(schema: dict[str, Any], text: str = "hello") -> Any:  # noqa: ANN401
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return json.loads(await says(user(text), options=GenerationOptions(response_format=form)))


async def test_it_says_what_it_is_and_what_it_heard() -> None:
    assert await says(user("Hello there")) == (
        "[demo] You said: “Hello there”. This is turn 1. "
        "I am the built-in demo model; connect a real one for real answers."
    )


async def test_it_counts_the_turns() -> None:
    assert "This is turn 2." in await says(user("a"), assistant(), user("b"))


async def test_it_answers_in_chinese_where_it_is_asked_so() -> None:
    assert (await says(user("你好"))).startswith("[demo] 你说的是“你好”。这是第 1 轮对话。")


async def test_it_streams_word_by_word_and_chinese_by_character() -> None:
    texts = [
        event.text for event in await events_of([user("a b 你好")]) if type(event) is TextDelta
    ]

    assert texts[:6] == ["[demo] ", "你", "说", "的", "是", "“a "]


@pytest.mark.parametrize(
    ("earlier", "question", "answer"),
    [
        ("Hi, my name is Ada.", "What is my name?", "[demo] Your name is Ada."),
        ("call me Bob please", "do you remember my name", "[demo] Your name is Bob."),
        ("我叫小明。你好", "我叫什么名字?", "[demo] 你叫小明。"),
        ("Hi.", "Who am I?", "[demo] You have not told me your name yet."),
        ("red", "What was my first message?", "[demo] Your first message was: “red”."),
        ("red", "What did I say before?", "[demo] Before this you said: “red”."),
        ("红色", "我刚才说了什么", "[demo] 在此之前你说过“红色”。"),
    ],
)
async def test_it_recalls_the_conversation(earlier: str, question: str, answer: str) -> None:
    assert await says(user(earlier), assistant(), user(question)) == answer


async def test_it_shows_the_start_of_its_instructions_only_when_asked() -> None:
    system = Message(ChatRole.SYSTEM, "Be kind. " * 20)

    assert "Be kind" not in await says(system, user("Hello"))
    shown = await says(system, user("What is your system prompt?"))
    assert shown.startswith("[demo] My instructions begin: “Be kind. Be kind.")
    assert len(shown) < 100
    assert await says(user("What are your instructions?")) == "[demo] I was given no instructions."


async def test_it_counts_as_far_as_it_is_asked_to() -> None:
    assert await says(user("Please count to 5")) == "[demo] 1 2 3 4 5"


async def test_it_notices_images() -> None:
    parts = (TextPart("look"), ImagePart("https://example.com/a.png"))

    assert "You sent 1 image." in await says(Message(ChatRole.USER, parts))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is (12 + 3) * 4?", [("calculator", {"expression": "(12 + 3) * 4"})]),
        ("3 \u00d7 4 \u00f7 2 = ?", [("calculator", {"expression": "3 * 4 / 2"})]),
        ("It happened on 2026-11-21.", []),
        ("Use the calculator", [("calculator", {"expression": "Use the calculator"})]),
        ("What time is it?", [("current_time", {})]),
        ("现在几点", [("current_time", {})]),
        ("1+1 and the time", [("calculator", {"expression": "1+1"}), ("current_time", {})]),
        ('calculator {"expression": "2"}', [("calculator", {"expression": "2"})]),
        ("Hello", []),
    ],
)
async def test_it_calls_the_tools_that_the_text_is_about(text: str, expected: object) -> None:
    assert await calls(text, CALCULATOR, CLOCK) == expected


async def test_a_forced_call_is_made_whatever_the_text() -> None:
    assert [name for name, _ in await calls("Hi", CALCULATOR, CLOCK, choice="required")] == [
        "calculator"
    ]
    assert await calls("Hi", CALCULATOR, CLOCK, choice="current_time") == [("current_time", {})]


async def test_one_call_at_a_time_where_that_is_asked_for() -> None:
    made = await calls("1+1 and the time", CALCULATOR, CLOCK, parallel=False)

    assert [name for name, _ in made] == ["calculator"]


async def test_a_tool_is_known_by_the_words_of_its_name() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
        "required": ["city", "unit"],
    }
    weather = ToolSpec("get_weather", "", schema)

    assert await calls("What's the weather in New York?", weather) == [
        ("get_weather", {"city": "New York", "unit": "celsius"})
    ]
    assert await calls("In kelvin: the weather in “Rome”", weather) == [
        ("get_weather", {"city": "Rome", "unit": "kelvin"})
    ]
    assert await calls("Research whether it rains", weather) == []


async def test_numbers_are_handed_out_in_their_order() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }

    assert await calls("add 2.5 and 7", ToolSpec("add", "", schema)) == [
        ("add", {"a": 2.5, "b": 7})
    ]


async def test_after_a_tools_result_it_answers_even_when_a_call_is_forced() -> None:
    called = Message(
        ChatRole.ASSISTANT,
        tool_calls=(ToolCall("c1", "calculator", "{}"), ToolCall("c2", "current_time", "{}")),
    )
    results = [
        Message(ChatRole.TOOL, "42", tool_call_id="c1"),
        Message(ChatRole.TOOL, "noon", tool_call_id="c2"),
    ]
    options = GenerationOptions(tools=(CALCULATOR, CLOCK), tool_choice="required")

    assert await says(user("1+1"), called, *results, options=options) == (
        "[demo] calculator returned 42. current_time returned noon."
    )


async def test_it_answers_in_json_where_that_is_asked_for() -> None:
    options = GenerationOptions(response_format={"type": "json_object"})

    answer = json.loads(await says(user("Hello"), options=options))
    assert answer["answer"].startswith("[demo] You said: “Hello”.")
    asked = "JSON with 'title', 'body' and 'tags' keys"
    assert [*json.loads(await says(user(asked), options=options))] == ["title", "body", "tags"]


async def test_it_fills_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["news", "sports"]},
            "version": {"const": 3},
            "score": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "count": {"type": "integer", "minimum": 10, "multipleOf": 4},
            "done": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 2},
            "code": {"type": "string", "minLength": 200, "maxLength": 200},
            "day": {"type": "string", "format": "date"},
            "note": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Note"}]},
            "nothing": {"type": "null"},
            "both": {
                "allOf": [
                    {"type": "object", "properties": {"a": {"type": "boolean"}}},
                    {"properties": {"b": {"type": ["integer", "null"]}}},
                ]
            },
        },
        "$defs": {"Note": {"type": "object", "properties": {"by": {"type": "string"}}}},
    }
    filled = await fills(schema, "Sports from Berlin")

    assert len(filled.pop("code")) == 200
    assert filled == {
        "kind": "sports",
        "version": 3,
        "score": 0.5,
        "count": 12,
        "done": True,
        "tags": ["Berl", "Berl"],
        "day": "2026-01-01",
        "note": {"by": "Berlin"},
        "nothing": None,
        "both": {"a": True, "b": 1},
    }


async def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    node = {
        "type": "object",
        "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
        },
        "required": ["next", "children"],
    }

    assert set(await fills({"$ref": "#/$defs/Node", "$defs": {"Node": node}})) == {
        "next",
        "children",
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 1e6, "items": {"type": "array", "minItems": 1000}},
        {"type": "array", "minItems": "many"},
        {"type": "object", "properties": ["a"], "required": [{}]},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": 7},
    ],
)
async def test_a_schema_that_cannot_be_followed_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UpstreamRefused):
        await fills(schema)


async def test_a_stop_sequence_may_reach_over_words() -> None:
    options = GenerationOptions(stop=("never", "said: “Hel"))
    events = await events_of([user("Hello")], options)

    assert [event for event in events if isinstance(event, TextDelta)] == [
        TextDelta("[demo] "),
        TextDelta("You "),
    ]
    assert isinstance(events[-1], ModelFinished)
    assert events[-1].reason == "stop"


async def test_a_tool_call_can_be_cut_by_the_token_limit() -> None:
    options = GenerationOptions(tools=(CALCULATOR,), max_tokens=2)
    events = await events_of([user("1 + 1")], options)

    assert events == [
        ToolCallDelta(0, "call_demo_1_0", "calculator"),
        ToolCallDelta(0, arguments='{"expression": '),
        UsageReported(Usage(3, 2), "demo"),
        ModelFinished("length", "demo", "fp_demo"),
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_every_token_is_certain(stream: bool) -> None:
    options = GenerationOptions(logprobs=True, top_logprobs=1, max_tokens=2)
    events = await events_of([user("Hello")], options, stream=stream)

    tokens: list[Any] = []
    for event in events:
        if isinstance(event, TextDelta) and event.logprobs:
            tokens += event.logprobs["content"]  # type: ignore[arg-type]
    certain = {"token": "You ", "logprob": 0.0, "bytes": [89, 111, 117, 32]}
    assert len(tokens) == 2
    assert tokens[1] == {**certain, "top_logprobs": [certain]}


async def test_the_same_call_always_gets_the_same_answer() -> None:
    options = GenerationOptions(tools=(CALCULATOR, CLOCK), temperature=2.0, seed=1)
    question = [user("1 + 1 and the time")]

    assert await events_of(question, options) == await events_of(question, options)


async def test_others_run_while_it_talks() -> None:
    talk = asyncio.ensure_future(events_of([user("count to 10000")]))
    await asyncio.sleep(0)

    assert not talk.done()
    assert len(await talk) > 10_000


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "what did i " * 10_000, "{" * 100_000, "1+" * 9_999]
)
async def test_no_text_keeps_it_busy_for_long(text: str) -> None:
    async with asyncio.timeout(5):
        await events_of([user(text)], GenerationOptions(tools=(CALCULATOR, CLOCK)))
