"""One attempt at Anthropic's Messages API: what is read, and when it is given up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from runtime.domain.errors import (
    DomainError,
    InvalidValue,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import (
    ChatRole,
    FinishReason,
    Message,
    Usage,
)
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.anthropic import AnthropicProvider
from runtime.infrastructure.providers.anthropic.answers import MessageAnswer
from runtime.infrastructure.providers.base import Connection, Provider, Timeouts
from runtime.infrastructure.providers.faults import Faults
from tests.upstream import Exchange, FakeUpstream
from tests.upstream.dialects import AnthropicDialect

KEY = "sk-ant-canary-1234567890"
HELLO = (Message(ChatRole.USER, "Hello"),)


def answer() -> MessageAnswer:
    return MessageAnswer(Faults("anthropic"), "asked-model")


def read(*payloads: object, into: MessageAnswer | None = None) -> list[ModelEvent]:
    reading = into or answer()
    events = [each for payload in payloads for each in reading.take(orjson.dumps(payload))]
    return [*events, *reading.finish()]


START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-1",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 20,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 300,
            "output_tokens": 2,
        },
    },
}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}


def begin(index: int, **block: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: object) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def close(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str, **usage: object) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": usage or {"output_tokens": 15},
    }


def test_a_stream_with_everything_in_it() -> None:
    events = read(
        START,
        PING,
        begin(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm."),
        delta(0, "thinking_delta", thinking=""),
        delta(0, "signature_delta", signature="c2ln"),
        close(0),
        begin(1, type="redacted_thinking", data="x"),
        close(1),
        begin(2, type="text", text=""),
        delta(2, "text_delta", text="Let me "),
        delta(2, "text_delta", text="see."),
        close(2),
        begin(3, type="tool_use", id="toolu_1", name="f", input={}),
        delta(3, "input_json_delta", partial_json=""),
        delta(3, "input_json_delta", partial_json='{"x":'),
        delta(3, "input_json_delta", partial_json=" 1}"),
        close(3),
        begin(4, type="something_new", data=[1]),
        delta(4, "something_delta", data=1),
        close(4),
        {"type": "event_of_the_future"},
        begin(5, type="tool_use", id="toolu_2", name="g", input={}),
        close(5),
        end("tool_use", output_tokens=89, output_tokens_details={"thinking_tokens": 40}),
        STOP,
    )

    assert events == [
        ReasoningDelta("Hm."),
        TextDelta("Let me "),
        TextDelta("see."),
        ToolCallDelta(0, "toolu_1", "f"),
        ToolCallDelta(0, arguments='{"x":'),
        ToolCallDelta(0, arguments=" 1}"),
        ToolCallDelta(1, "toolu_2", "g"),
        ToolCallDelta(1, arguments="{}"),
        UsageReported(Usage(420, 89, 300, 40), "claude-test-1"),
        ModelFinished("tool_calls", "claude-test-1"),
    ]


def test_an_answer_in_one_piece_becomes_the_same_events() -> None:
    whole = {
        **START["message"],
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }

    assert read(whole) == [
        ReasoningDelta("Hm."),
        TextDelta("Hi"),
        ToolCallDelta(0, "toolu_1", "f"),
        ToolCallDelta(0, arguments='{"x":1}'),
        UsageReported(Usage(3, 1), "claude-test-1"),
        ModelFinished("tool_calls", "claude-test-1"),
    ]


def test_a_call_that_stands_whole_in_its_beginning_is_taken() -> None:
    events = read(begin(0, type="tool_use", id="t", name="f", input={"x": 1}), close(0), STOP)

    assert events[:2] == [ToolCallDelta(0, "t", "f"), ToolCallDelta(0, arguments='{"x":1}')]


def test_tools_that_the_provider_runs_itself_are_no_calls() -> None:
    events = read(
        begin(0, type="server_tool_use", id="s", name="web_search", input={}),
        delta(0, "input_json_delta", partial_json='{"q"'),
        close(0),
        begin(1, type="text", text="", citations=[]),
        delta(1, "text_delta", text="So it is."),
        delta(1, "citations_delta", citation={"url": "https://example.org", "title": "A page"}),
        delta(1, "citations_delta", citation={"type": "page_location", "document_index": 0}),
        close(1),
        end("end_turn"),
    )

    page = {"url": "https://example.org", "title": "A page", "start_index": 0, "end_index": 9}
    assert events[1] == AnnotationsAdded([{"type": "url_citation", "url_citation": page}])
    assert events[-1] == ModelFinished("stop", "asked-model")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("something-new", "stop"),
    ],
)
def test_stop_reasons_are_put_in_our_words(theirs: str, ours: FinishReason) -> None:
    finished = read(START, begin(0, type="text", text="Hi"), close(0), end(theirs), STOP)[-1]
    assert finished == ModelFinished(ours, "claude-test-1")


def test_usage_of_the_end_takes_the_place_of_the_beginnings() -> None:
    usage = read(START, end("end_turn", input_tokens=25, output_tokens=9))[0]
    assert usage == UsageReported(Usage(425, 9, 300), "claude-test-1")


@pytest.mark.parametrize("reason", ["tool_use", "end_turn"])
@pytest.mark.parametrize(
    "events",
    [
        [delta(0, "input_json_delta", partial_json='{"x": 1'), close(0)],
        [delta(0, "input_json_delta", partial_json="[1]"), close(0)],
        [delta(0, "input_json_delta", partial_json='{"x": 1}')],
        [],
    ],
    ids=["cut", "no object", "not closed", "empty and not closed"],
)
def test_a_call_that_is_not_whole_spoils_the_answer(
    events: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(UpstreamFailed, match="broke off a tool call"):
        read(begin(0, type="tool_use", id="t", name="f", input={}), *events, end(reason), STOP)


def test_a_call_that_is_cut_at_the_limit_ends_with_it() -> None:
    cut = delta(0, "input_json_delta", partial_json='{"x"')
    events = read(begin(0, type="tool_use", id="t", name="f"), cut, close(0), end("max_tokens"))

    assert events[-1] == ModelFinished("length", "asked-model")


def test_an_answer_without_an_end_is_none() -> None:
    with pytest.raises(UpstreamFailed, match="before its answer was complete"):
        read(START, begin(0, type="text", text="Hi"), close(0))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", UpstreamFailed),
        ("api_error", UpstreamFailed),
        ("rate_limit_error", UpstreamRateLimited),
        ("authentication_error", UpstreamAuthFailed),
        ("permission_error", UpstreamAuthFailed),
        ("invalid_request_error", UpstreamRefused),
        ("not_found_error", UpstreamRefused),
        ("timeout_error", UpstreamTimeout),
        ("error_of_the_future", UpstreamFailed),
    ],
)
def test_an_error_within_the_stream_is_what_its_status_would_be(
    kind: str, error: type[DomainError]
) -> None:
    event = {"type": "error", "error": {"type": kind, "message": "Told."}}
    with pytest.raises(DomainError) as caught:
        read(START, event)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"type":"content_block_delta"}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":1}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":""}}',
        b'{"type":"message"}',
    ],
)
def test_what_is_no_event_spoils_the_answer(payload: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="not a message"):
        list(answer().take(payload))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def egress(upstream: FakeUpstream) -> AsyncIterator[EgressClient]:
    client = EgressClient(EgressPolicy(own=[upstream.base_url]))
    yield client
    await client.aclose()


def connect(
    egress: EgressClient,
    upstream: FakeUpstream,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
    **options: object,
) -> Provider:
    connection = Connection(
        "anthropic", upstream.azure_url, KEY, options=options, timeouts=timeouts
    )
    return AnthropicProvider.connect(egress, connection)


async def test_the_key_and_the_version_are_in_headers_of_their_own(
    egress: EgressClient, upstream: FakeUpstream
) -> None:
    provider = connect(egress, upstream, max_tokens=77)
    events = [event async for event in provider.stream(ModelCall(None, HELLO), "m")]
    await provider.aclose()

    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json["max_tokens"] == 77
    assert isinstance(events[-1], ModelFinished)


async def test_pings_do_not_keep_a_silent_answer_alive(
    egress: EgressClient, upstream: FakeUpstream
) -> None:
    async def silent(exchange: Exchange) -> None:
        say = AnthropicDialect()
        exchange.start()
        await exchange.write(say.opening() + say.word("Hm"))
        while True:
            await exchange.write(say.ping)
            await asyncio.sleep(0.01)

    upstream.script(silent)
    provider = connect(egress, upstream, Timeouts(idle_s=0.5))
    async with asyncio.timeout(2):
        with pytest.raises(UpstreamTimeout, match="fell silent"):
            assert not [event async for event in provider.stream(ModelCall(None, HELLO), "m")]
    await provider.aclose()


async def test_words_between_pings_do_keep_it_alive(
    egress: EgressClient, upstream: FakeUpstream
) -> None:
    async def slow(exchange: Exchange) -> None:
        say = AnthropicDialect()
        exchange.start()
        await exchange.write(say.opening())
        for _ in range(6):
            await exchange.write(say.word("on ") + say.ping)
            await asyncio.sleep(0.05)
        await exchange.write(say.ending("stop", None) + say.done)
        await exchange.end()

    upstream.script(slow)
    provider = connect(egress, upstream, Timeouts(idle_s=0.2))
    events = [event async for event in provider.stream(ModelCall(None, HELLO), "m")]
    await provider.aclose()

    assert isinstance(events[-1], ModelFinished)


@pytest.mark.parametrize("options", [{"thinking": "hard"}, {"max_tokens": 0}, {"max_token": 1}])
def test_options_it_does_not_know_are_refused(options: dict[str, object]) -> None:
    connection = Connection("a", "https://api.anthropic.com", KEY, options=options)
    with pytest.raises(InvalidValue) as refusal:
        AnthropicProvider.connect(EgressClient(EgressPolicy()), connection)
    assert refusal.value.param == "options"


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, set()), ({"json_object"}, set()), ({"json_object", "json_schema"}, {"json_schema"})],
)
def test_only_schemas_are_a_format_that_its_models_can_keep_to(
    given: set[str] | None, kept: set[str]
) -> None:
    formats = None if given is None else frozenset(given)
    connection = Connection("a", api_key=KEY, formats=formats)
    made = AnthropicProvider.connect(EgressClient(EgressPolicy()), connection)

    assert made.formats == kept
