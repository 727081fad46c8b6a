"""A call in OpenAI's terms as the body of Anthropic's `POST /v1/messages`."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from runtime.domain.errors import (
    InvalidValue,
    UnsupportedParameter,
)
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    FilePart,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolSpec,
)
from runtime.infrastructure.providers.anthropic.requests import Dialect, request_body

HELLO = (Message(ChatRole.USER, "Hello"),)
PLAIN = Dialect(4096, "auto")
LATEST, OLDER = "claude-opus-4-7", "claude-sonnet-4-5-20250929"


def sent(
    messages: Sequence[Message] = HELLO,
    options: GenerationOptions | None = None,
    *,
    model: str = LATEST,
    dialect: Dialect = PLAIN,
) -> dict[str, Any]:
    call = ModelCall(None, messages, options or GenerationOptions())
    body: dict[str, Any] = orjson.loads(request_body(call, model, dialect))
    return body


def turns(*messages: Message) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(messages)["messages"]
    return found


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_a_plain_call_has_what_the_api_wants_and_no_more() -> None:
    assert sent() == {
        "model": LATEST,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hello")]}],
        "stream": True,
    }


def test_system_messages_stand_beside_the_turns_wherever_they_were_said() -> None:
    body = sent(
        [
            Message(ChatRole.SYSTEM, "Be kind."),
            Message(ChatRole.USER, "Hello"),
            Message(ChatRole.DEVELOPER, "Be brief."),
            Message(ChatRole.SYSTEM, " "),
        ]
    )

    assert body["system"] == [text("Be kind."), text("Be brief.")]
    assert body["messages"] == [{"role": "user", "content": [text("Hello")]}]


def test_a_system_message_alone_is_the_turn_to_answer() -> None:
    body = sent([Message(ChatRole.SYSTEM, "Say hello.")])

    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("Say hello.")]}]


def test_turns_of_one_role_become_one() -> None:
    assert turns(
        Message(ChatRole.USER, "One"),
        Message(ChatRole.USER, "two"),
        Message(ChatRole.ASSISTANT, "Three"),
        Message(ChatRole.ASSISTANT, refusal="No four."),
        Message(ChatRole.USER, "Five"),
    ) == [
        {"role": "user", "content": [text("One"), text("two")]},
        {"role": "assistant", "content": [text("Three"), text("No four.")]},
        {"role": "user", "content": [text("Five")]},
    ]


def test_results_of_several_calls_come_in_one_turn_before_what_is_said() -> None:
    calls = (ToolCall("c1", "f", '{"x": 1}'), ToolCall("c2!", "g", ""))
    assert turns(
        Message(ChatRole.USER, "Go"),
        Message(ChatRole.ASSISTANT, "Well.", tool_calls=calls),
        Message(ChatRole.TOOL, "42", tool_call_id="c1"),
        Message(ChatRole.TOOL, "", tool_call_id="c2!"),
        Message(ChatRole.USER, "And?"),
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                text("Well."),
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "c2_", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [text("42")]},
                {"type": "tool_result", "tool_use_id": "c2_"},
                text("And?"),
            ],
        },
    ]


@pytest.mark.parametrize("arguments", ['{"x": 1', "[1]", "x"])
def test_a_call_that_was_no_object_is_sent_as_one(arguments: str) -> None:
    called = Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c", "f", arguments),))
    result = Message(ChatRole.TOOL, "No.", tool_call_id="c")

    assert turns(*HELLO, called, result)[1]["content"][0]["input"] == {"arguments": arguments}


def test_a_conversation_cut_at_its_beginning_still_begins_with_the_user() -> None:
    first, second, third = turns(
        Message(ChatRole.ASSISTANT, "As I said. "), Message(ChatRole.USER, "Yes?")
    )[0:1] + turns(Message(ChatRole.USER, "Go on"), Message(ChatRole.ASSISTANT, "So then \n"))

    assert first["role"] == "user"
    assert (second["role"], third["role"]) == ("user", "assistant")
    assert third["content"] == [text("So then")]


def test_blank_texts_are_left_out() -> None:
    parts = (TextPart(""), TextPart("Hi"))
    assert turns(Message(ChatRole.USER, parts), Message(ChatRole.ASSISTANT, " ")) == [
        {"role": "user", "content": [text("Hi")]}
    ]


def test_images_and_files_become_blocks() -> None:
    parts = (
        ImagePart("https://example.com/a.png", "low"),
        ImagePart("data:image/png;base64,AA=="),
        FilePart(filename="a.pdf", data="data:application/pdf;base64,AA=="),
        FilePart(data="data:text/plain;charset=utf-8;base64," + b64encode(b"Hi").decode()),
    )
    png = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "AA=="}
    plain = {"type": "text", "media_type": "text/plain", "data": "Hi"}
    assert turns(Message(ChatRole.USER, parts))[0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": png},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": plain},
    ]


@pytest.mark.parametrize(
    "part",
    [
        AudioPart("QUJD", "wav"),
        FilePart(file_id="file-1"),
        FilePart(data="data:application/zip;base64,AA=="),
        FilePart(data="AA=="),
        FilePart(data="data:text/plain;base64,/w=="),
        ImagePart("data:image/png,plain"),
    ],
)
def test_parts_without_a_counterpart_are_refused(part: AudioPart | FilePart | ImagePart) -> None:
    with pytest.raises(InvalidValue) as refusal:
        sent([Message(ChatRole.USER, (part,))])
    assert refusal.value.param == "messages"


def test_a_call_without_anything_to_answer_is_refused() -> None:
    with pytest.raises(InvalidValue):
        sent([])


def test_text_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidValue):
        sent([Message(ChatRole.USER, "half a pair: \ud83c")])


def test_options_are_put_in_anthropics_words() -> None:
    body = sent(
        options=GenerationOptions(
            temperature=0.5, top_p=0.9, max_completion_tokens=90, stop=("END",), user="u1", seed=7
        )
    )
    del body["messages"], body["model"], body["stream"]

    assert body == {
        "max_tokens": 90,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
    }


@pytest.mark.parametrize("temperature", [-0.1, 1.1, 2])
def test_a_temperature_beyond_one_is_refused_by_name(temperature: float) -> None:
    with pytest.raises(InvalidValue) as refusal:
        sent(options=GenerationOptions(temperature=temperature))
    assert refusal.value.param == "temperature"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (GenerationOptions(presence_penalty=0.5), "presence_penalty"),
        (GenerationOptions(frequency_penalty=-0.5), "frequency_penalty"),
        (GenerationOptions(logit_bias={"1": 1}), "logit_bias"),
        (GenerationOptions(logprobs=True), "logprobs"),
        (GenerationOptions(verbosity="low"), "verbosity"),
    ],
)
def test_what_the_api_has_no_words_for_is_refused_by_name(
    options: GenerationOptions, name: str
) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        sent(options=options)
    assert refusal.value.param == name


def test_what_asks_for_nothing_is_not_refused() -> None:
    options = GenerationOptions(presence_penalty=0, frequency_penalty=0.0, logprobs=False)
    assert sent(options=options) == sent()


TOOL = ToolSpec("f", "Does f.", {"type": "object", "properties": {"x": {"type": "number"}}})


@pytest.mark.parametrize(
    ("choice", "parallel", "wire"),
    [
        (None, None, None),
        ("auto", True, None),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("f", None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("f", False, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
    ],
)
def test_tools_and_their_choice(
    choice: str | None, parallel: bool | None, wire: Mapping[str, object] | None
) -> None:
    options = GenerationOptions(
        tools=(TOOL, ToolSpec("g", strict=True)), tool_choice=choice, parallel_tool_calls=parallel
    )
    body = sent(options=options)

    assert body["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": TOOL.parameters},
        {"name": "g", "input_schema": {"type": "object"}, "strict": True},
    ]
    assert body.get("tool_choice") == wire


def test_effort_is_a_budget_on_top_of_the_limit_for_older_models() -> None:
    options = GenerationOptions(
        reasoning_effort="medium", max_tokens=100, temperature=0.2, top_p=0.5
    )
    body = sent(options=options, model=OLDER)

    assert body["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert body["max_tokens"] == 8292
    assert "temperature" not in body
    assert "top_p" not in body


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("claude-3-7-sonnet-latest", "enabled"),
        ("claude-opus-4-1", "enabled"),
        ("claude-sonnet-4-20250514", "enabled"),
        ("claude-haiku-4-5", "enabled"),
        ("claude-sonnet-4-6", "adaptive"),
        ("claude-opus-4-10", "adaptive"),
        ("claude-opus-5", "adaptive"),
        ("some-model", "adaptive"),
    ],
)
def test_how_effort_is_asked_for_depends_on_the_model(model: str, mode: str) -> None:
    options = GenerationOptions(reasoning_effort="low")
    assert sent(options=options, model=model)["thinking"]["type"] == mode


def test_later_models_are_told_how_much_effort_to_spend() -> None:
    body = sent(options=GenerationOptions(reasoning_effort="xhigh"))

    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "xhigh"}


def test_a_connection_decides_how_effort_is_asked_for() -> None:
    options = GenerationOptions(reasoning_effort="low")

    assert "thinking" not in sent(options=options, dialect=Dialect(10, "off"))
    budget = sent(options=options, dialect=Dialect(10, "budget"))
    assert budget["thinking"]["type"] == "enabled"
    assert budget["max_tokens"] == 10 + 2048


def test_no_effort_is_no_thinking_and_an_unknown_one_is_refused() -> None:
    assert "thinking" not in sent(options=GenerationOptions(reasoning_effort="none"))
    with pytest.raises(InvalidValue) as refusal:
        sent(options=GenerationOptions(reasoning_effort="utmost"))
    assert refusal.value.param == "reasoning_effort"


def test_there_is_no_thinking_where_the_api_allows_none() -> None:
    forced = GenerationOptions(reasoning_effort="high", tools=(TOOL,), tool_choice="f")
    assert "thinking" not in sent(options=forced)

    called = Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c", "f", "{}"),))
    loop = [*HELLO, called, Message(ChatRole.TOOL, "1", tool_call_id="c")]
    options = GenerationOptions(reasoning_effort="high", tools=(TOOL,))
    assert "thinking" not in sent(loop, options, model=OLDER)
    assert "thinking" in sent(loop, options, model=LATEST)


def test_who_says_how_to_cache_gets_cache_marks() -> None:
    messages = [Message(ChatRole.SYSTEM, "Be kind."), *HELLO]
    short = sent(messages, GenerationOptions(prompt_cache_key="k"))
    long = sent(messages, GenerationOptions(prompt_cache_retention="24h"))

    mark = {"type": "ephemeral"}
    assert short["system"] == [{**text("Be kind."), "cache_control": mark}]
    assert short["messages"][-1]["content"] == [{**text("Hello"), "cache_control": mark}]
    assert long["system"][0]["cache_control"] == {**mark, "ttl": "1h"}


def test_a_schema_that_was_not_put_into_words_is_sent_as_one() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = sent(options=GenerationOptions(response_format=form))

    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "output_config" not in sent(options=GenerationOptions(response_format={"type": "text"}))
