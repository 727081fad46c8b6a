"""OpenAI's Responses API by the official SDK."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream, faults
from tests.upstream.answers import chunk, chunks

PAY: Any = {
    "type": "function",
    "name": "pay",
    "description": "Pays a bill.",
    "parameters": {"type": "object", "properties": {"bill": {"type": "integer"}}},
    "strict": False,
}


class Answer(BaseModel):
    value: int


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as served:
        yield served


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    asked: Any = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-test"}
    async with serving(tmp_path, **asked) as served:
        yield served


async def create(runtime: Served, input: Any = "Hello", **options: Any) -> Response:  # noqa: ANN401
    made: Response = await runtime.openai.responses.create(
        **{"model": "assistant", "input": input, **options}
    )
    return made


def conversation(upstream: FakeUpstream) -> list[tuple[str, Any]]:
    """What the model was told last, without the agent's own prompt."""
    messages = upstream.requests[-1].json["messages"]
    return [(m["role"], m.get("content")) for m in messages if m["role"] != "system"]


async def test_an_agent_answers(runtime: Served) -> None:
    answer = await create(runtime, "Hello out there", metadata={"a": "b"}, temperature=0.5)

    assert answer.output_text == "You said: Hello out there"
    assert (answer.status, answer.error, answer.model) == ("completed", None, "assistant")
    assert (answer.metadata, answer.temperature, answer.top_p) == ({"a": "b"}, 0.5, 1.0)
    assert answer.id.startswith("resp_")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.completed_at
    run = await runtime.until(lambda _: True, f"/v1/runs/run_{answer.id.removeprefix('resp_')}")
    assert run["status"] == "completed"


async def test_the_synchronous_client_works_too(runtime: Served) -> None:
    def ask() -> tuple[str, str, str]:
        with OpenAI(base_url=f"{runtime.url}/v1", api_key="local") as client:
            whole = client.responses.create(model="assistant", input="Hello")
            with client.responses.stream(model="assistant", input="Hello") as stream:
                streamed = stream.get_final_response()
            return whole.output_text, streamed.output_text, streamed.status or ""

    assert await asyncio.to_thread(ask) == ("You said: Hello", "You said: Hello", "completed")


async def test_a_stored_response_is_what_the_caller_got(runtime: Served) -> None:
    whole = await create(runtime)
    events = [
        event
        async for event in await runtime.openai.responses.create(
            model="assistant", input="Hello", stream=True
        )
    ]
    last = events[-1]
    assert last.type == "response.completed"

    for answer in (whole, last.response):
        assert await runtime.openai.responses.retrieve(answer.id) == answer


async def test_a_stream_is_numbered_and_ends_with_the_response(runtime: Served) -> None:
    stream = await runtime.openai.responses.create(model="assistant", input="Hello", stream=True)
    events = [event async for event in stream]

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text == "You said: Hello"


async def test_the_wire_of_a_stream_names_its_events_and_has_no_done(runtime: Served) -> None:
    body = {"model": "assistant", "input": "Hello", "stream": True}
    response = await runtime.http.post("/v1/responses", json=body)

    assert response.headers["content-type"].startswith("text/event-stream")
    frames = response.text.split("\n\n")
    assert frames[0].startswith('event: response.created\ndata: {"type":"response.created"')
    assert frames[-2].startswith("event: response.completed\n")
    assert "[DONE]" not in response.text


async def test_instructions_are_for_one_response_alone(
    runtime: Served, upstream: FakeUpstream
) -> None:
    first = await create(runtime, "One", instructions="Speak like a pirate.")
    assert "pirate" in str(upstream.requests[-1].json["messages"])
    second = await create(runtime, "Two", previous_response_id=first.id)

    assert "pirate" not in str(upstream.requests[-1].json["messages"])
    assert conversation(upstream) == [
        ("user", "One"),
        ("assistant", "You said: One"),
        ("user", "Two"),
    ]
    assert second.previous_response_id == first.id
    assert (first.instructions, second.instructions) == ("Speak like a pirate.", None)


async def test_a_chain_is_as_long_as_it_is(runtime: Served, upstream: FakeUpstream) -> None:
    previous = None
    for number in range(5):
        answer = await create(runtime, f"Turn {number}", previous_response_id=previous)
        previous = answer.id

    assert len(conversation(upstream)) == 9
    assert conversation(upstream)[0] == ("user", "Turn 0")


async def test_a_function_is_called_and_answered_on_the_response_before(
    runtime: Served, upstream: FakeUpstream
) -> None:
    asked = await create(runtime, 'Please pay {"bill": 7}', tools=[PAY])
    (call,) = asked.output
    assert call.type == "function_call"
    assert (call.name, call.arguments, call.status) == ("pay", '{"bill": 7}', "completed")
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "paid"}
    answer = await create(runtime, [output], tools=[PAY], previous_response_id=asked.id)

    assert answer.output_text == "The tool said: paid"
    assert [m["role"] for m in upstream.requests[-1].json["messages"]][-3:] == [
        *("user", "assistant", "tool")
    ]


async def test_a_function_is_answered_with_the_whole_conversation(runtime: Served) -> None:
    items: list[Any] = [{"role": "user", "content": 'Please pay {"bill": 7}'}]
    asked = await create(runtime, items, tools=[PAY], store=False)
    (call,) = asked.output
    assert call.type == "function_call"
    items += [item.model_dump(exclude_none=True) for item in asked.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "paid"}]

    answer = await create(runtime, items, tools=[PAY], store=False)
    assert answer.output_text == "The tool said: paid"


@pytest.mark.parametrize(
    ("choice", "sent", "offered"),
    [
        ("required", "required", ["pay", "ship"]),
        (
            {"type": "function", "name": "pay"},
            {"function": {"name": "pay"}, "type": "function"},
            ["pay", "ship"],
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "ship"}],
            },
            "required",
            ["ship"],
        ),
    ],
)
async def test_the_choice_of_tools_reaches_the_model(
    runtime: Served, upstream: FakeUpstream, choice: object, sent: object, offered: list[str]
) -> None:
    await create(runtime, tools=[PAY, PAY | {"name": "ship"}], tool_choice=choice)

    request = upstream.requests[-1].json
    assert request["tool_choice"] == sent
    assert [tool["function"]["name"] for tool in request["tools"]] == offered


async def test_the_agent_s_own_tools_are_items_of_the_output(runtime: Served) -> None:
    await runtime.publish(
        name="Tools", template_id="react-agent", template_config={"tools": ["calculator"]}
    )
    answer = await create(runtime, 'use calculator {"expression": "6*7"}', model="tools")

    call, message = answer.output
    assert call.type == "mcp_call"
    assert (call.server_label, call.name, call.output) == ("agent", "calculator", "42")
    assert message.type == "message"
    again = await create(runtime, "And now?", model="tools", previous_response_id=answer.id)
    assert again.output_text == "You said: And now?"


async def test_a_parsed_answer_is_an_object(runtime: Served, upstream: FakeUpstream) -> None:
    upstream.script(chunks(chunk({"content": '{"value": 42}'}), chunk(finish="stop")))
    asked: Any = {"model": "assistant", "input": "How much?", "text_format": Answer}
    async with runtime.openai.responses.stream(**asked) as stream:
        answer = await stream.get_final_response()

    assert answer.output_parsed == Answer(value=42)
    sent = upstream.requests[-1].json["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Answer")
    assert sent["json_schema"]["schema"]["properties"]["value"]["type"] == "integer"


async def test_thoughts_refusals_and_log_probabilities_are_told(
    runtime: Served, upstream: FakeUpstream
) -> None:
    token = {"token": "Hi", "logprob": -0.25, "bytes": None, "top_logprobs": []}
    said = chunk({"content": "Hi"})
    said["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    upstream.script(
        chunks(
            chunk({"reasoning_content": "Hm."}),
            said,
            chunk({"refusal": "But no."}),
            chunk(finish="stop"),
        )
    )
    asked: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    async with runtime.openai.responses.stream(model="assistant", input="Hello", **asked) as stream:
        answer = await stream.get_final_response()

    thought, message = answer.output
    assert thought.type == "reasoning"
    assert thought.content
    assert thought.content[0].text == "Hm."
    assert message.type == "message"
    text, refusal = message.content
    assert text.type == "output_text"
    assert text.logprobs
    assert text.logprobs[0].token == "Hi"
    assert refusal.type == "refusal"
    assert refusal.refusal == "But no."
    assert (upstream.requests[-1].json["logprobs"], upstream.requests[-1].json["top_logprobs"]) == (
        True,
        2,
    )
    stored = await runtime.get(f"/v1/responses/{answer.id}")
    assert stored["output"][1]["content"][0]["logprobs"] == [token | {"bytes": []}]


async def test_an_answer_that_is_cut_short_is_incomplete(runtime: Served) -> None:
    answer = await create(runtime, "words:40", max_output_tokens=16)

    assert answer.status == "incomplete"
    assert answer.incomplete_details
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert len(answer.output_text.split()) == 16


async def test_what_is_not_stored_is_nowhere(runtime: Served) -> None:
    answer = await create(runtime, store=False)
    assert answer.store is False  # type: ignore[attr-defined]

    with pytest.raises(openai.NotFoundError) as found:
        await runtime.openai.responses.retrieve(answer.id)
    assert found.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        await create(runtime, previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


async def test_a_deleted_response_is_gone_and_so_is_what_followed_on_it(runtime: Served) -> None:
    first = await create(runtime, "One")
    second = await create(runtime, "Two", previous_response_id=first.id)
    await runtime.openai.responses.delete(first.id)

    for gone in (first.id, "resp_404"):
        with pytest.raises(openai.NotFoundError):
            await runtime.openai.responses.retrieve(gone)
        with pytest.raises(openai.NotFoundError):
            await runtime.openai.responses.delete(gone)
    with pytest.raises(openai.BadRequestError, match=first.id):
        await create(runtime, "Three", previous_response_id=second.id)


async def test_input_items_are_listed_page_by_page(runtime: Served) -> None:
    input = [{"role": "user", "content": f"Part {number}"} for number in range(5)]
    answer = await create(runtime, input)
    listed = runtime.openai.responses.input_items

    texts = [
        item.to_dict()["content"][0]["text"]  # type: ignore[index]
        async for item in listed.list(answer.id, limit=2, order="asc")
    ]
    assert texts == [f"Part {number}" for number in range(5)]
    newest = await listed.list(answer.id, limit=1)
    assert newest.to_dict()["data"][0]["content"][0]["text"] == "Part 4"  # type: ignore[index]
    assert newest.has_more
    with pytest.raises(openai.BadRequestError):
        await listed.list(answer.id, after="msg_404")


async def test_input_tokens_are_counted_and_nothing_is_run(
    runtime: Served, upstream: FakeUpstream
) -> None:
    count = runtime.openai.responses.input_tokens.count
    short = await count(model="assistant", input="Hello")
    long = await count(model="assistant", input="Hello " * 100, tools=[PAY])

    assert (short.object, short.input_tokens) == ("response.input_tokens", 2)
    assert 150 < long.input_tokens < 250
    assert upstream.requests == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("fault:rate-limited", 429, "upstream_rate_limited"),
        ("fault:garbage", 502, "upstream_error"),
        ("fault:400", 400, "upstream_invalid_request"),
    ],
)
async def test_a_refusal_before_the_first_output_keeps_its_status(
    runtime: Served, stream: bool, fault: str, status: int, code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await create(runtime, fault, stream=stream)

    assert (refused.value.status_code, refused.value.code) == (status, code)


async def test_a_failure_in_mid_stream_is_the_last_event(runtime: Served) -> None:
    stream = await runtime.openai.responses.create(
        model="assistant", input="fault:cut", stream=True
    )
    events = [event async for event in stream]

    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error
    assert last.response.error.code == "server_error"
    assert last.response.output_text == "One two "
    assert (await runtime.openai.responses.retrieve(last.response.id)).status == "failed"


async def test_nothing_is_stored_of_an_answer_that_was_refused(
    runtime: Served, upstream: FakeUpstream
) -> None:
    upstream.script(*[faults.status(400)])
    response = await runtime.http.post(
        "/v1/responses", json={"model": "assistant", "input": "Hello"}
    )
    run = await runtime.until(lambda found: bool(found["data"]), "/v1/runs")

    assert response.status_code == 400
    id = f"resp_{run['data'][0]['id'].removeprefix('run_')}"
    await runtime.get(f"/v1/responses/{id}", status=404)


async def test_too_long_a_context_is_cut_only_where_that_is_asked_for(
    runtime: Served, upstream: FakeUpstream
) -> None:
    turns = [{"role": "user", "content": str(number)} for number in range(4_096)]
    first = await create(runtime, turns)
    with pytest.raises(openai.BadRequestError, match="truncation"):
        await create(runtime, "Last", previous_response_id=first.id)
    cut = await create(runtime, "Last", previous_response_id=first.id, truncation="auto")

    assert cut.output_text == "You said: Last"
    assert cut.truncation == "auto"
    assert conversation(upstream)[-1] == ("user", "Last")


@pytest.mark.parametrize(
    ("option", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"max_output_tokens": 100}, "max_output_tokens"),
    ],
)
async def test_what_the_agent_fixes_is_refused_in_the_door_s_own_words(
    runtime: Served, option: Json, param: str
) -> None:
    config = {"temperature": 0.2, "max_tokens": 50}
    await runtime.publish(name="Fixed", template_id="langgraph-simple-test", template_config=config)
    with pytest.raises(openai.BadRequestError) as refused:
        await create(runtime, model="fixed", **option)

    assert (refused.value.code, refused.value.param) == ("parameter_fixed", param)
    assert param in str(refused.value)


async def test_responses_outlive_the_process(tmp_path: Path, upstream: FakeUpstream) -> None:
    asked: Any = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-test"}
    async with serving(tmp_path, **asked) as runtime:
        first = await create(runtime, "One")
    async with serving(tmp_path, **asked) as runtime:
        assert await runtime.openai.responses.retrieve(first.id) == first
        await create(runtime, "Two", previous_response_id=first.id)

    assert conversation(upstream)[0] == ("user", "One")


async def test_what_is_too_old_is_pruned(tmp_path: Path) -> None:
    async with serving(tmp_path, response_retention_days=1e-7) as runtime:
        answer = await create(runtime)
        await asyncio.sleep(0.02)
        await runtime.container.retention()()

        await runtime.get(f"/v1/responses/{answer.id}", status=404)
