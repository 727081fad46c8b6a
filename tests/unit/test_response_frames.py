"""The stream of a response: OpenAI's events, in order, the same ones for whoever encodes them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from runtime.domain.entities.responses import (
    End,
    Response,
    ResponseStatus,
    open_items,
    response_id,
)
from runtime.domain.errors import ExecutionFailed, Saturated, UpstreamRateLimited
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import DEFAULT_PROJECT, LOCAL_USER
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.items import items_of
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.openai.items import wire_of
from runtime.infrastructure.web.openai.responses.frames import ResponseFrames
from runtime.infrastructure.web.openai.responses.wire import CreateResponseRequest

RUN = RunId("run_0a")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
REQUEST = CreateResponseRequest(model="support", input="Hi")
RESPONSE = Response(
    id=response_id(RUN),
    project_id=DEFAULT_PROJECT,
    owner_id=LOCAL_USER,
    model="support",
    status=ResponseStatus.IN_PROGRESS,
    background=False,
    previous_id=None,
    conversation=None,
    created_at=NOON,
    settings=REQUEST.settings(),
)
DONE = RunCompleted("stop", Usage(3, 2))
EVERYTHING: list[RunEvent] = [
    RunStarted(RUN),
    ReasoningDelta("Let me "),
    ReasoningDelta("see."),
    TextDelta("I look "),
    TextDelta('it "up".'),
    ToolCalled("c1", "search", '{"q": 1}'),
    ToolCalled("c2", "clock", "{}"),
    ToolReturned("c2", "clock", "error", "broken", 1.0),
    ToolReturned("c1", "search", "success", "found", 1.0),
    TextDelta("There", {"content": [{"token": "There", "logprob": -0.5, "bytes": None}]}),
    TextDelta("."),
    RefusalDelta("But "),
    RefusalDelta("no."),
    ToolCallDelta(0, "x1", "pay", '{"a"'),
    ToolCallDelta(0, arguments=":1}"),
    ToolCallDelta(1, "x2", "ship", "{}"),
]
SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def encoded(events: Sequence[RunEvent], end: End = DONE, after: int = -1) -> bytes:
    frames = ResponseFrames(RESPONSE, after)
    sent = frames.begin() + b"".join(map(frames.add, events)) + frames.close(open_items(end))
    return sent + frames.end(RESPONSE.ended(end, frames.output.items, NOON))


def read(sent: bytes) -> list[dict[str, Any]]:
    events = []
    for frame in sent.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def kinds(events: Sequence[RunEvent], end: End = DONE) -> list[str]:
    return [event["type"].removeprefix("response.") for event in read(encoded(events, end))]


def test_text_comes_in_the_parts_of_one_message() -> None:
    assert kinds([TextDelta("a"), TextDelta("b"), RefusalDelta("c")]) == [
        *("created", "in_progress", "output_item.added"),
        *("content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done"),
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]


def test_thoughts_and_tools_of_the_agent_are_items_of_their_own() -> None:
    events: list[RunEvent] = [
        ReasoningDelta("Hm"),
        ToolCalled("c1", "search", "{}"),
        ToolReturned("c1", "search", "error", "broken", 1.0),
    ]
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added"),
        *("content_part.added", "reasoning_text.delta", "reasoning_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "mcp_call.in_progress"),
        *("mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.failed"),
        *("output_item.done", "completed"),
    ]


def test_calls_for_the_caller_are_whole_when_the_run_ends() -> None:
    assert kinds([ToolCallDelta(0, "x1", "pay", '{"a"'), ToolCallDelta(0, arguments=":1}")]) == [
        *("created", "in_progress", "output_item.added"),
        *("function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]


def test_every_event_is_one_that_the_sdk_knows_with_a_number_of_its_own() -> None:
    events = read(encoded(EVERYTHING))

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        parsed = SDK.validate_python(event)
        assert parsed.type == event["type"]


def test_deltas_add_up_to_what_is_done_and_to_the_output() -> None:
    events = read(encoded(EVERYTHING))
    pieces: dict[tuple[str, int], str] = {}
    for event in events:
        key = (event.get("item_id", ""), event.get("content_index", 0))
        if event["type"].endswith(".delta"):
            pieces[key] = pieces.get(key, "") + event["delta"]
        for field in ("text", "refusal", "arguments"):
            if event["type"].endswith(".done") and field in event:
                assert pieces[key] == event[field]

    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    output = events[-1]["response"]["output"]
    assert sorted(done, key=lambda item: item["id"][-4:]) == output
    assert output == [wire_of(item) for item in items_of(RUN, EVERYTHING)]
    assert [len(output), output[4]["content"][0]["logprobs"][0]["token"]] == [7, "There"]


@pytest.mark.parametrize("after", [0, 1, 5, 11, 20, 35])
def test_who_comes_back_gets_the_rest_unchanged(after: int) -> None:
    whole = read(encoded(EVERYTHING))

    assert read(encoded(EVERYTHING, after=after)) == whole[after + 1 :]


def test_nothing_is_left_after_the_last_number() -> None:
    assert encoded(EVERYTHING, after=999) == b""


def test_an_answer_that_is_cut_short_is_incomplete() -> None:
    events = read(encoded([TextDelta("Half a")], RunCompleted("length", Usage(1, 1))))

    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert "usage" in response


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (RunFailed(ExecutionFailed("Broken.")), "failed", "server_error"),
        (RunFailed(Saturated("seats", 3)), "failed", "server_error"),
        (RunFailed(UpstreamRateLimited("Wait.")), "failed", "rate_limit_exceeded"),
        (RunCancelled(), "cancelled", None),
    ],
)
def test_a_run_that_fails_ends_what_it_has_begun(end: End, status: str, code: str | None) -> None:
    events = read(encoded([TextDelta("Half a")], end))

    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["status"] == status
    assert (response["error"] or {}).get("code") == code


def test_what_can_t_be_told_to_its_end_is_an_error_event() -> None:
    frames = ResponseFrames(replace(RESPONSE))
    frames.begin()
    (event,) = read(frames.broken(understand(Saturated("seats", 3))))

    assert (event["type"], event["code"], event["sequence_number"]) == ("error", "saturated", 2)
