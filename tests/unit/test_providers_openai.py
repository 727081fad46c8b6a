"""One attempt at an OpenAI-wire endpoint: what is sent, what is read, what goes wrong."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime.domain.errors import (
    DomainError,
    InvalidValue,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    FilePart,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolSpec,
    Usage,
)
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.base import Timeouts
from runtime.infrastructure.providers.faults import retry_after_s
from runtime.infrastructure.providers.openai import OpenAIProvider
from tests.providers import openai
from tests.upstream import Exchange, FakeUpstream, answers, faults
from tests.upstream.answers import chunk, chunks, says
from tests.upstream.wire import Behaviour

KEY = "sk-canary-1234567890"
HELLO = (Message(ChatRole.USER, "Hello there"),)
STOP = chunk(finish="stop")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def egress(upstream: FakeUpstream) -> AsyncIterator[EgressClient]:
    client = EgressClient(EgressPolicy(own=[upstream.base_url]))
    yield client
    await client.aclose()


@pytest.fixture
async def provider(egress: EgressClient, upstream: FakeUpstream) -> AsyncIterator[OpenAIProvider]:
    made = openai(egress, upstream.base_url, KEY)
    yield made
    await made.aclose()


@pytest.fixture
async def hasty(egress: EgressClient, upstream: FakeUpstream) -> AsyncIterator[OpenAIProvider]:
    """Waits for the beginning of an answer, but not for long."""
    made = openai(
        egress, upstream.base_url, KEY, timeouts=Timeouts(first_token_s=0.05, answer_s=0.05)
    )
    yield made
    await made.aclose()


@pytest.fixture
async def restless(egress: EgressClient, upstream: FakeUpstream) -> AsyncIterator[OpenAIProvider]:
    """Does not bear silence in the middle of an answer."""
    made = openai(egress, upstream.base_url, KEY, timeouts=Timeouts(idle_s=0.05))
    yield made
    await made.aclose()


async def events_of(
    provider: OpenAIProvider,
    messages: Sequence[Message] = HELLO,
    options: GenerationOptions | None = None,
    *,
    stream: bool = True,
) -> list[ModelEvent]:
    call = ModelCall(None, messages, options or GenerationOptions(), stream=stream)
    return [event async for event in provider.stream(call, "some-model")]


async def until_it_breaks(provider: OpenAIProvider) -> tuple[str, DomainError]:
    """The text that came, and how it ended."""
    text = ""
    try:
        async for event in provider.stream(ModelCall(None, HELLO), "some-model"):
            text += event.text if isinstance(event, TextDelta) else ""
    except DomainError as error:
        return text, error
    raise AssertionError("the answer looked complete")


async def refusal_of(provider: OpenAIProvider) -> DomainError:
    _, error = await until_it_breaks(provider)
    return error


def tool(index: int | None, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    piece: dict[str, Any] = {"function": {"arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if id is not None:
        piece["id"] = id
    if name is not None:
        piece["function"]["name"] = name
    return piece


async def test_every_option_reaches_the_wire(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    await events_of(
        provider,
        options=GenerationOptions(
            temperature=0.0,
            top_p=0.5,
            max_tokens=100,
            max_completion_tokens=90,
            stop=("END",),
            seed=7,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            logit_bias={"50256": -100},
            logprobs=True,
            top_logprobs=2,
            reasoning_effort="low",
            verbosity="high",
            response_format={"type": "json_object"},
            user="u1",
            safety_identifier="s1",
            prompt_cache_key="p1",
            tools=(ToolSpec("f", "Does f.", schema, strict=True), ToolSpec("g")),
            tool_choice="f",
            parallel_tool_calls=False,
        ),
    )

    assert upstream.requests[0].json == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "Hello there"}],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 100,
        "max_completion_tokens": 90,
        "stop": ["END"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "verbosity": "high",
        "response_format": {"type": "json_object"},
        "user": "u1",
        "safety_identifier": "s1",
        "prompt_cache_key": "p1",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does f.",
                    "parameters": schema,
                    "strict": True,
                },
            },
            {
                "type": "function",
                "function": {"name": "g", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_body_of_many_megabytes_arrives_whole(
    upstream: FakeUpstream, provider: OpenAIProvider
) -> None:
    text = "long " * 1_000_000
    upstream.script(says("Read."))
    await events_of(provider, (Message(ChatRole.USER, text),))

    (request,) = upstream.requests
    assert request.json["messages"][0]["content"] == text
    assert int(request.headers["content-length"]) == len(request.body)


async def test_options_that_are_not_given_are_not_sent(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    await events_of(provider, stream=False)

    assert set(upstream.requests[0].json) == {"model", "messages", "stream"}


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
async def test_a_literal_tool_choice_stays_one(
    provider: OpenAIProvider, upstream: FakeUpstream, choice: str
) -> None:
    options = GenerationOptions(tools=(ToolSpec("f"),), tool_choice=choice)
    await events_of(provider, options=options)

    assert upstream.requests[0].json["tool_choice"] == choice


async def test_messages_of_every_role_and_part_reach_the_wire(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    parts = (
        TextPart("Look:"),
        ImagePart("https://example.com/a.png", "low"),
        ImagePart("data:image/png;base64,AA=="),
        AudioPart("QUJD", "wav"),
        FilePart(file_id="file-1"),
        FilePart(filename="a.pdf", data="data:application/pdf;base64,AA=="),
    )
    await events_of(
        provider,
        [
            Message(ChatRole.SYSTEM, "Be kind."),
            Message(ChatRole.DEVELOPER, "Be brief."),
            Message(ChatRole.USER, parts, name="ada"),
            Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c1", "f", '{"x":1}'),)),
            Message(ChatRole.TOOL, "42", tool_call_id="c1"),
            Message(ChatRole.ASSISTANT, refusal="No."),
        ],
    )

    assert upstream.requests[0].json["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "Look:"},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://example.com/a.png", "detail": "low"},
                },
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,AA==",
                    },
                },
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x":1}'},
                }
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]


async def test_text_that_json_cannot_carry_is_refused(provider: OpenAIProvider) -> None:
    with pytest.raises(InvalidValue):
        await events_of(provider, [Message(ChatRole.USER, "half a pair: \ud83c")])


async def test_the_key_is_sent_as_a_bearer_token(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    await events_of(provider)

    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_without_a_key_there_is_no_authorization(
    egress: EgressClient, upstream: FakeUpstream
) -> None:
    provider = openai(egress, upstream.base_url)
    await events_of(provider)
    await provider.aclose()

    assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize("url", ["", "api.example.com/v1", "ftp://example.com", "file:///etc"])
def test_a_base_url_that_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="base URL"):
        openai(EgressClient(EgressPolicy()), url)


@pytest.mark.parametrize("key", ["sk-1\nX-Evil: 1", "sk 1", "sk-ü"])
def test_a_key_that_would_break_the_header_is_refused(key: str) -> None:
    with pytest.raises(InvalidValue, match="key"):
        openai(EgressClient(EgressPolicy()), "https://example.com/v1", key)


async def test_text_reasoning_refusals_and_citations_are_told_apart(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1}], "refusal": None}
    likely = chunk({"content": "Hi"})
    likely["choices"][0]["logprobs"] = logprobs
    refused = {"content": None, "refusal": [{"token": "No.", "logprob": -0.2}]}
    unlikely = chunk({"refusal": "No."})
    unlikely["choices"][0]["logprobs"] = refused
    cited = {"url": "https://example.org", "title": "A page", "start_index": 0, "end_index": 2}
    citation = {"type": "url_citation", "url_citation": cited}
    upstream.script(
        chunks(
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "Hm"}),
            chunk({"reasoning": "m.", "content": None}),
            likely,
            unlikely,
            chunk({"annotations": [citation, {"type": "file"}, "odd"], "content": ""}),
            chunk({"annotations": [{"type": "file"}]}),
            STOP,
        )
    )

    assert await events_of(provider) == [
        ReasoningDelta("Hm"),
        ReasoningDelta("m."),
        TextDelta("Hi", logprobs),
        RefusalDelta("No.", refused),
        AnnotationsAdded([citation]),
        ModelFinished("stop", "fake-1", "fp_fake"),
    ]


@pytest.mark.parametrize("last", ["own chunk", "finishing chunk"])
async def test_usage_is_read_wherever_it_stands(
    provider: OpenAIProvider, upstream: FakeUpstream, last: str
) -> None:
    ends = [STOP, {**chunk(), "choices": [], "usage": answers.USAGE}]
    if last == "finishing chunk":
        ends = [{**STOP, "usage": answers.USAGE}]
    upstream.script(chunks(chunk({"content": "Hi"}), *ends))

    usage = Usage(input_tokens=9, output_tokens=12, cached_tokens=4, reasoning_tokens=5)
    assert (await events_of(provider))[-2] == UsageReported(usage, "fake-1")


async def test_usage_without_details_is_usage(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": None}
    upstream.script(chunks(chunk({"content": "Hi"}), {**STOP, "usage": usage}))

    assert (await events_of(provider))[-2] == UsageReported(Usage(3, 1), "fake-1")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("end_turn", "stop"),
        ("function_call", "stop"),
        ("something-new", "stop"),
    ],
)
async def test_finish_reasons_are_put_in_our_words(
    provider: OpenAIProvider, upstream: FakeUpstream, theirs: str, ours: FinishReason
) -> None:
    upstream.script(chunks(chunk({"content": "Hi"}), chunk(finish=theirs)))

    assert (await events_of(provider))[-1] == ModelFinished(ours, "fake-1", "fp_fake")


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "stop"])
async def test_an_answer_with_calls_finishes_with_tool_calls(
    provider: OpenAIProvider, upstream: FakeUpstream, reason: str
) -> None:
    upstream.script(chunks(chunk({"tool_calls": [tool(0, "c1", "f", "{}")]}), chunk(finish=reason)))

    assert await events_of(provider) == [
        ToolCallDelta(0, "c1", "f", "{}"),
        ModelFinished("tool_calls", "fake-1", "fp_fake"),
    ]


async def test_several_calls_grow_side_by_side(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(
        chunks(
            chunk({"tool_calls": [tool(0, "c1", "f", "")]}),
            chunk({"tool_calls": [tool(1, "c2", "g", "")]}),
            chunk({"tool_calls": [tool(0, None, None, '{"a"'), tool(1, None, None, "{")]}),
            chunk({"tool_calls": [tool(0, "c1", "f", ":1}")]}),
            chunk({"tool_calls": [tool(1, "", "", "}")]}),
            chunk(finish="tool_calls"),
        )
    )

    assert (await events_of(provider))[:-1] == [
        ToolCallDelta(0, "c1", "f"),
        ToolCallDelta(1, "c2", "g"),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(1, arguments="{"),
        ToolCallDelta(0, arguments=":1}"),
        ToolCallDelta(1, arguments="}"),
    ]


@pytest.mark.parametrize("index", [None, 0])
async def test_calls_that_are_not_numbered_are_told_apart_by_id(
    provider: OpenAIProvider, upstream: FakeUpstream, index: int | None
) -> None:
    upstream.script(
        chunks(
            chunk({"tool_calls": [tool(index, "c1", "f", "{")]}),
            chunk({"tool_calls": [tool(index, None, None, "}")]}),
            chunk({"tool_calls": [tool(index, "c2", "g", "{}")]}),
            chunk(finish="tool_calls"),
        )
    )

    assert (await events_of(provider))[:-1] == [
        ToolCallDelta(0, "c1", "f", "{"),
        ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, "c2", "g", "{}"),
    ]


async def test_a_call_waits_for_its_name_and_is_given_an_id(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(
        chunks(
            chunk({"tool_calls": [tool(0, None, None, "{")]}),
            chunk({"tool_calls": [tool(0, None, "f", "}")]}),
            chunk(finish="tool_calls"),
        )
    )

    call = (await events_of(provider))[0]
    assert isinstance(call, ToolCallDelta)
    assert re.fullmatch("call_[0-9a-f]{32}", call.call_id)
    assert (call.name, call.arguments) == ("f", "{}")


async def test_an_answer_in_one_piece_becomes_the_same_events(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    message = {
        "role": "assistant",
        "reasoning_content": "Hm.",
        "content": "Hi",
        "refusal": None,
        "tool_calls": [tool(None, "c1", "f", "{}"), tool(None, "c2", "f", "{}")],
    }
    body = {
        "model": "fake-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    upstream.script(faults.status(200, body))

    assert await events_of(provider, stream=False) == [
        ReasoningDelta("Hm."),
        TextDelta("Hi"),
        ToolCallDelta(0, "c1", "f", "{}"),
        ToolCallDelta(1, "c2", "f", "{}"),
        UsageReported(Usage(3, 1), "fake-1"),
        ModelFinished("tool_calls", "fake-1"),
    ]


async def test_a_whole_answer_is_taken_where_a_stream_was_asked_for(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
    upstream.script(faults.status(200, {"model": "fake-1", "choices": [choice]}))

    assert await events_of(provider) == [TextDelta("Hi"), ModelFinished("stop", "fake-1")]


async def test_events_may_be_cut_at_any_byte(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.bytewise())

    assert (await events_of(provider))[0] == TextDelta("Grüße, 世界 🌍")


async def test_comments_fields_and_line_ends_of_every_kind_are_taken(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    body = (
        b": keep-alive\n\n"
        b'event: message\r\nid: 1\r\ndata: {"choices":[{"delta":{"content":"a"}}]}\r\n\r\n'
        b'data:{"choices":[{"delta":{"content":"b"}}]}\n\n'
        b'retry: 3\ndata:  {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]"
    )
    upstream.script(answers.raw(body))

    assert await events_of(provider) == [
        TextDelta("a"),
        TextDelta("b"),
        ModelFinished("stop", "some-model"),
    ]


async def test_a_finished_answer_needs_no_done(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.no_done())

    assert isinstance((await events_of(provider))[-1], ModelFinished)


async def test_a_connection_cut_after_the_finish_reason_loses_nothing(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.start()
        await exchange.write(answers.sse(chunk({"content": "Hi"}), STOP, done=False))
        exchange.close()

    upstream.script(answer)

    assert (await events_of(provider))[0] == TextDelta("Hi")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamRefused),
        (401, UpstreamAuthFailed),
        (402, UpstreamQuotaExhausted),
        (403, UpstreamAuthFailed),
        (404, UpstreamRefused),
        (408, UpstreamTimeout),
        (413, UpstreamRefused),
        (422, UpstreamRefused),
        (429, UpstreamRateLimited),
        (500, UpstreamFailed),
        (502, UpstreamFailed),
        (503, UpstreamFailed),
        (504, UpstreamTimeout),
        (529, UpstreamFailed),
        (204, UpstreamFailed),
    ],
)
async def test_a_status_becomes_a_refusal(
    provider: OpenAIProvider, upstream: FakeUpstream, status: int, kind: type[DomainError]
) -> None:
    upstream.script(faults.status(status))

    assert type(await refusal_of(provider)) is kind


async def test_a_refused_request_is_told_in_the_providers_words(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    error = {"message": "Too hot.", "param": "temperature", "code": "invalid_value"}
    upstream.script(faults.status(400, {"error": error}))

    refusal = await refusal_of(provider)
    assert str(refusal) == "Too hot."
    assert refusal.param == "temperature"


@pytest.mark.parametrize(
    "body",
    [{"error": "Too hot."}, {"message": "Too hot."}, {"detail": "Too hot."}],
    ids=["bare error", "message", "detail"],
)
async def test_the_providers_words_are_found_in_other_shapes_too(
    provider: OpenAIProvider, upstream: FakeUpstream, body: object
) -> None:
    upstream.script(faults.status(400, body))

    assert str(await refusal_of(provider)) == "Too hot."


@pytest.mark.parametrize("body", [b"<html>Bad</html>", b"", b"[1]", b"{"])
async def test_an_error_without_readable_words_is_still_told(
    provider: OpenAIProvider, upstream: FakeUpstream, body: bytes
) -> None:
    upstream.script(faults.status(400, body))

    refusal = await refusal_of(provider)
    assert str(refusal) == "The model provider 'openai' refused the request (HTTP 400)."


async def test_a_long_refusal_is_shortened(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.status(400, {"error": {"message": "x" * 10_000}}))

    assert len(str(await refusal_of(provider))) == 500


async def test_a_missing_model_is_named(provider: OpenAIProvider, upstream: FakeUpstream) -> None:
    upstream.script(faults.status(404))

    assert "has no model 'some-model'" in str(await refusal_of(provider))


async def test_an_exhausted_quota_is_not_a_rate_limit(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.quota())

    refusal = await refusal_of(provider)
    assert isinstance(refusal, UpstreamQuotaExhausted)
    assert not refusal.retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "Sat, 01 Jan 2050 00:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "-1"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_in_every_notation(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, datetime(2050, 1, 1, tzinfo=UTC).timestamp()) == seconds


async def test_a_rate_limit_says_how_long_to_wait(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.rate_limited(Retry_After="7"))

    assert (await refusal_of(provider)).retry_after_s == 7


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
async def test_the_key_and_the_address_are_in_no_message(
    provider: OpenAIProvider, upstream: FakeUpstream, status: int
) -> None:
    said = f"Key {KEY} is wrong at {upstream.base_url}."
    upstream.script(faults.status(status, {"error": {"message": said, "param": None}}))

    message = str(await refusal_of(provider))
    assert KEY not in message
    assert "127.0.0.1" not in message


async def test_a_redirect_is_not_followed(provider: OpenAIProvider, upstream: FakeUpstream) -> None:
    async with FakeUpstream() as elsewhere:
        upstream.script(faults.redirect(f"{elsewhere.base_url}/chat/completions"))

        assert isinstance(await refusal_of(provider), UpstreamMisconfigured)
        assert elsewhere.requests == []
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("fault", "before", "kind"),
    [
        (faults.cut(), "One two ", UpstreamFailed),
        (faults.cut(0), "", UpstreamFailed),
        (faults.reset(), "One two ", UpstreamFailed),
        (faults.no_finish(), "One two ", UpstreamFailed),
        (faults.no_finish(done=True), "One two ", UpstreamFailed),
        (faults.garbage_json(), "One two ", UpstreamFailed),
        (faults.garbage, "", UpstreamFailed),
        (faults.html(), "", UpstreamFailed),
        (faults.cut_tool_call(), "", UpstreamFailed),
        (faults.cut_tool_call(end=True), "", UpstreamFailed),
        (faults.error_event({"message": "x", "code": "server_error"}), "One two ", UpstreamFailed),
        (faults.error_event("overloaded"), "One two ", UpstreamFailed),
        (faults.error_event({"code": "rate_limit_exceeded"}), "One two ", UpstreamRateLimited),
        (faults.error_event({"code": 429}), "One two ", UpstreamRateLimited),
        (faults.error_event({"type": "insufficient_quota"}), "One two ", UpstreamQuotaExhausted),
        (chunks(chunk({"content": "Hm"}), chunk(finish="error")), "Hm", UpstreamFailed),
        (chunks(chunk({"content": ["Hm"]}), STOP), "", UpstreamFailed),
        (chunks([1, 2, 3], STOP), "", UpstreamFailed),
        (chunks({"choices": "none"}, STOP), "", UpstreamFailed),
        (chunks(chunk({"tool_calls": [tool(0, "c", None, "{}")]}), STOP), "", UpstreamFailed),
        (answers.raw(b"{}", "application/json"), "", UpstreamFailed),
        (answers.raw(b'{"choices": [', "application/json"), "", UpstreamFailed),
    ],
)
async def test_an_answer_cut_short_or_spoilt_never_looks_complete(
    provider: OpenAIProvider,
    upstream: FakeUpstream,
    fault: Behaviour,
    before: str,
    kind: type[DomainError],
) -> None:
    upstream.script(fault)

    text, error = await until_it_breaks(provider)
    assert text == before
    assert type(error) is kind


@pytest.mark.parametrize("after", [0, 2])
async def test_an_endless_line_is_given_up_without_being_read_to_its_end(
    provider: OpenAIProvider, upstream: FakeUpstream, after: int
) -> None:
    upstream.script(faults.huge_line(after))

    assert isinstance(await refusal_of(provider), UpstreamFailed)
    await upstream.requests[0].closed.wait()
    assert not upstream.requests[0].answered.is_set()


async def test_an_endless_body_is_given_up_without_being_read_to_its_end(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.huge_line())

    with pytest.raises(UpstreamFailed, match="in one piece"):
        await events_of(provider, stream=False)
    await upstream.requests[0].closed.wait()
    assert not upstream.requests[0].answered.is_set()


@pytest.mark.parametrize("fault", [faults.slow_headers, faults.silent_headers])
async def test_no_token_in_time_is_a_time_out_and_ends_the_connection(
    hasty: OpenAIProvider,
    upstream: FakeUpstream,
    fault: Behaviour,
) -> None:
    upstream.script(fault)

    assert isinstance(await refusal_of(hasty), UpstreamTimeout)
    await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client


async def test_silence_between_tokens_is_a_time_out_and_ends_the_connection(
    restless: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.stall())

    assert isinstance(await refusal_of(restless), UpstreamTimeout)
    await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client


async def test_an_answer_in_one_piece_has_a_time_limit_too(
    hasty: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.slow_headers)

    with pytest.raises(UpstreamTimeout):
        await events_of(hasty, stream=False)


async def test_a_slow_reader_is_not_taken_for_a_silent_provider(
    restless: OpenAIProvider, upstream: FakeUpstream
) -> None:
    taken = asyncio.Semaphore(0)

    async def answer(exchange: Exchange) -> None:
        exchange.start()
        for payload in (chunk({"content": "a"}), chunk({"content": "b"})):
            await exchange.write(answers.event(payload))
            await taken.acquire()
        await exchange.write(answers.sse(STOP))
        await exchange.end()

    upstream.script(answer)

    text = ""
    async for event in restless.stream(ModelCall(None, HELLO), "some-model"):
        if isinstance(event, TextDelta):
            text += event.text
            await asyncio.sleep(0.1)
            taken.release()
    assert text == "ab"


async def test_an_endpoint_that_is_not_there_is_a_failure() -> None:
    async with FakeUpstream() as gone:
        url = gone.base_url
    egress = EgressClient(EgressPolicy(own=[url]))
    provider = openai(egress, url, KEY)

    error = await refusal_of(provider)
    assert isinstance(error, UpstreamFailed)
    assert str(error) == "The model provider 'openai' could not be reached."
    await provider.aclose()
    await egress.aclose()


async def test_a_finished_answer_leaves_its_connection_to_the_next(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    for stream in (True, False, True, True):
        await events_of(provider, stream=stream)

    assert upstream.connections_made == 1


async def test_a_refusal_leaves_its_connection_to_the_next(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.status(400), faults.status(503))
    await refusal_of(provider)
    await refusal_of(provider)
    await events_of(provider)

    assert upstream.connections_made == 1


async def test_leaving_a_stream_closes_its_connection(
    provider: OpenAIProvider, upstream: FakeUpstream
) -> None:
    upstream.script(faults.stall())
    async with aclosing(provider.stream(ModelCall(None, HELLO), "some-model")) as events:
        await anext(events)

    await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client
    await events_of(provider)
    assert upstream.connections_made == 2


@pytest.mark.parametrize("fault", [faults.slow_headers, faults.stall()], ids=["waiting", "reading"])
@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_a_task_closes_its_connection(
    provider: OpenAIProvider,
    upstream: FakeUpstream,
    fault: Behaviour,
    stream: bool,
) -> None:
    upstream.script(fault)
    task = asyncio.ensure_future(events_of(provider, stream=stream))
    await upstream.arrived.wait()
    if fault is not faults.slow_headers:
        await upstream.requests[0].began.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client


async def test_cookies_are_not_kept(provider: OpenAIProvider, upstream: FakeUpstream) -> None:
    choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
    upstream.script(faults.status(200, {"choices": [choice]}, {"Set-Cookie": "a=b"}))
    await events_of(provider)
    await events_of(provider)

    assert "cookie" not in upstream.requests[1].headers
