"""The same events in every format, frame by frame."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from runtime.application.services.generation.sources import Sourced
from runtime.domain.errors import InvalidValue, UpstreamFailed
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.web.streaming.ai_sdk import AiSdkEncoder
from runtime.infrastructure.web.streaming.encoders import Encoder
from runtime.infrastructure.web.streaming.formats import ALIASES, FORMATS, format_of

STARTED = RunStarted(RunId("run_1"))
DONE = RunCompleted("stop", Usage(3, 2))
BROKEN = UpstreamFailed("It broke.")
USAGE = {
    "input_tokens": 3,
    "output_tokens": 2,
    "total_tokens": 5,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
}
ENDED = {"finishReason": "stop", "usage": USAGE}
AWKWARD = '"quoted"\n\ndata: [DONE]\n\n\x00 \x85 \u2028 好 🌍 \\'


def encoder(format: str, *names: str) -> Encoder:
    return FORMATS[format](names or ("demo",), tagged=len(names) > 1)


def encoded(made: Encoder, *events: RunEvent, source: int = 0) -> bytes:
    """As one batch, and event by event: it makes no difference."""
    return made.encode([Sourced(source, event) for event in events])


def payloads(frames: bytes) -> list[dict[str, Any]]:
    """Of the frames' `data` lines."""
    lines = [line for line in frames.decode().split("\n") if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def types(frames: bytes) -> list[str]:
    return [each["type"] for each in payloads(frames)]


def test_sse_is_as_the_document_has_it() -> None:
    made = encoder("sse")
    frames = encoded(made, STARTED, TextDelta("Hel"), TextDelta("lo"), DONE) + made.end()

    assert frames.decode().split("\n\n") == [
        'data: {"type":"start","source":"demo","run_id":"run_1"}\nid: 1',
        'data: {"type":"text-delta","content":"Hel"}\nid: 2',
        'data: {"type":"text-delta","content":"lo"}\nid: 3',
        f'data: {{"type":"finish","finish_reason":"stop","usage":{orjson.dumps(USAGE).decode()}}}'
        "\nid: 4",
        "",
    ]


def test_json_lines_are_the_same_objects_one_a_line() -> None:
    sse, lines = encoder("sse"), encoder("jsonl")
    events: Sequence[RunEvent] = [
        STARTED,
        StepStarted("1", "answer"),
        TextDelta(AWKWARD),
        ReasoningDelta("hm"),
        ToolCalled("c1", "add", "{}"),
        ToolReturned("c1", "add", "success", "2", 1.25),
        ToolCallDelta(0, "c2", "get", "{}"),
        StepFinished("1", "answer", "success", 2.25),
        UsageReported(Usage(1), "m"),
        DONE,
    ]
    told = [json.loads(line) for line in encoded(lines, *events).decode().splitlines()]

    assert told == payloads(encoded(sse, *events))
    assert [each["type"] for each in told] == [
        "start", "step-start", "text-delta", "reasoning-delta", "tool-call", "tool-result",
        "tool-call-delta", "step-finish", "finish",
    ]  # fmt: skip
    assert lines.end() == b'{"type":"done"}\n'


def test_text_is_the_answer_and_nothing_else() -> None:
    made = encoder("text")
    events: list[RunEvent]
    events = [STARTED, ReasoningDelta("hm"), TextDelta("好"), RefusalDelta(" no"), DONE]

    assert encoded(made, *events) == "好 no".encode()
    assert made.end() == b""
    assert made.fail(BROKEN) is None


def test_the_proxy_s_clients_get_message_error_and_done() -> None:
    made = encoder("proxy")
    frames = encoded(made, STARTED, TextDelta("Hi"), ToolCalled("c1", "add", "{}"), DONE)

    first, *others = (frames + made.end()).decode().split("\n\n")
    assert first == (
        'event: message\ndata: {"delta":"Hi","type":"text","metadata":{},"is_final":false}'
    )
    told = payloads(frames)
    assert [each["type"] for each in told] == ["text", "tool_start", "finish"]
    assert [each["is_final"] for each in told] == [False, False, True]
    assert others[-2:] == ['event: done\ndata: {"status":"completed"}', ""]
    assert made.fail(BROKEN) == (
        b'event: error\ndata: {"error":"It broke.","code":"upstream_error","status":502}\n\n'
    )


def test_the_ai_sdk_gets_parts_that_begin_and_end() -> None:
    made = encoder("ai-sdk")
    frames = encoded(
        made,
        STARTED,
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        AnnotationsAdded([{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]),
        DONE,
    )

    assert payloads(frames + made.end()) == [
        {"type": "start", "messageId": "run_1"},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "hm"},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "text-start", "id": "text-2"},
        {"type": "text-delta", "id": "text-2", "delta": "Hel"},
        {"type": "text-delta", "id": "text-2", "delta": "lo"},
        {"type": "source-url", "sourceId": "source-1", "url": "https://a.example"},
        {"type": "text-end", "id": "text-2"},
        {"type": "finish-step"},
        {"type": "finish", "messageMetadata": ENDED},
    ]
    assert made.end().endswith(b"data: [DONE]\n\n")


def test_an_agent_s_own_tools_are_not_for_the_ai_sdk_s_client_to_run() -> None:
    made = encoder("ai-sdk")
    frames = encoded(
        made,
        STARTED,
        ToolCalled("c1", "add", '{"a": 1}'),
        ToolReturned("c1", "add", "success", "2", 1),
        ToolCalled("c2", "add", "no json"),
        ToolReturned("c2", "add", "error", "no such thing", 1),
        TextDelta("2"),
    )

    told = payloads(frames)[2:]
    assert [each["type"] for each in told] == [
        "tool-input-start", "tool-input-available", "tool-output-available",
        "tool-input-start", "tool-input-available", "tool-output-error",
        "finish-step", "start-step", "text-start", "text-delta",
    ]  # fmt: skip
    assert all(each["providerExecuted"] and each["dynamic"] for each in told[:6])
    assert told[1]["input"] == {"a": 1}
    assert told[2]["output"] == 2
    assert told[4]["input"] == "no json"
    assert told[5]["errorText"] == "no such thing"


def test_the_caller_s_tools_are_called_when_their_arguments_are_whole() -> None:
    made = encoder("ai-sdk")
    pieces: list[RunEvent] = [
        ToolCallDelta(0, "c1", "get", '{"city":'),
        ToolCallDelta(1, "c2", "get", '{"ci'),
        ToolCallDelta(0, arguments=' "Oslo"}'),
    ]
    frames = encoded(made, STARTED, *pieces)
    ended = encoded(made, RunCompleted("tool_calls"))

    assert "tool-input-available" not in types(frames)
    assert payloads(ended) == [
        {
            "type": "tool-input-available",
            "toolCallId": "c1",
            "toolName": "get",
            "input": {"city": "Oslo"},
        },
        {
            "type": "tool-input-error",
            "toolCallId": "c2",
            "toolName": "get",
            "input": '{"ci',
            "errorText": "The model's arguments are no JSON.",
        },
    ]


def test_a_call_that_broke_off_is_never_made() -> None:
    made = AiSdkEncoder(["demo"])
    call = ToolCallDelta(0, "c1", "get", "{}")
    frames = encoded(made, STARTED, call, RunFailed(BROKEN)) + made.fail(BROKEN)

    assert "tool-input-available" not in types(frames)
    assert payloads(frames)[-1] == {"type": "error", "errorText": "It broke."}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("last", [RunFailed(BROKEN), RunCancelled()])
def test_a_failure_is_told_once_and_nothing_looks_like_an_end(format: str, last: RunEvent) -> None:
    made = encoder(format)
    before = encoded(made, STARTED, TextDelta("Hi"))
    told = made.fail(BROKEN)
    failed = encoded(made, last) + (told or b"")

    assert failed.count(b"It broke.") == (0 if format == "text" else 1)
    for end in (b"[DONE]", b"finish", b"done"):
        assert end not in before + failed


@pytest.mark.parametrize("format", FORMATS)
def test_batches_make_no_difference(format: str) -> None:
    events: list[RunEvent]
    events = [STARTED, TextDelta("a"), ReasoningDelta("b"), TextDelta("c"), TextDelta("d"), DONE]
    whole, apart = encoder(format), encoder(format)

    assert encoded(whole, *events) == b"".join(encoded(apart, event) for event in events)


@pytest.mark.parametrize("format", [name for name, kind in FORMATS.items() if kind.tells_apart])
def test_of_several_answers_every_event_says_whose_it_is(format: str) -> None:
    made = encoder(format, "one", "two")
    frames = encoded(made, STARTED, TextDelta("eins"))
    frames += encoded(made, STARTED, TextDelta("zwei"), source=1)
    frames += encoded(made, RunFailed(BROKEN)) + encoded(made, DONE, source=1)

    told = (frames + made.end()).decode()
    for text, name in (("eins", "one"), ("zwei", "two"), ("It broke.", "one")):
        assert (
            any(text in each and name in each for each in told.split("\n\n")) or format == "ai-sdk"
        )
    if format == "ai-sdk":
        started = [each for each in payloads(frames) if each["type"] == "text-start"]
        assert [each["providerMetadata"]["runtime"]["source"] for each in started] == ["one", "two"]
        assert payloads(made.end())[-1]["messageMetadata"]["sources"]["one"]["error"] == "It broke."


@pytest.mark.parametrize("format", FORMATS)
def test_no_text_can_break_out_of_its_frame(format: str) -> None:
    made = encoder(format)
    encoded(made, STARTED, TextDelta("a"))
    frames = encoded(made, TextDelta(AWKWARD))

    if format == "text":
        assert frames.decode() == AWKWARD
    else:
        assert frames.count(b"\n\n") == (0 if format == "jsonl" else 1)
        told = payloads(frames) or [json.loads(frames)]
        assert AWKWARD in told[0].values()


def test_a_format_has_other_names_too() -> None:
    assert {alias: format_of(alias) for alias in ALIASES} == {
        alias: FORMATS[name] for alias, name in ALIASES.items()
    }


def test_an_unknown_format_is_told_which_there_are() -> None:
    with pytest.raises(InvalidValue, match="sse, text, jsonl, ai-sdk, proxy"):
        format_of("xml")
