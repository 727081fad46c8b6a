"""The official OpenAI SDK against a runtime as its first start leaves it: no key, no service."""

import asyncio
import base64
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.e2e.server import Served, serving

HELLO: Any = [{"role": "user", "content": "Hello out there"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


async def chunks_of(runtime: Served, **options: Any) -> list[ChatCompletionChunk]:  # noqa: ANN401
    asked = {"model": "assistant", "messages": HELLO, **options}
    stream = await runtime.openai.chat.completions.create(**asked, stream=True)
    return [chunk async for chunk in stream]


async def test_the_first_agent_answers_and_says_that_it_is_a_demo(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(model="assistant", messages=HELLO)

    (choice,) = answer.choices
    assert "[demo]" in (choice.message.content or "")
    assert "Hello out there" in (choice.message.content or "")
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_synchronous_client_works_too(runtime: Served) -> None:
    def ask() -> tuple[str, str]:
        with OpenAI(base_url=f"{runtime.url}/v1", api_key="local") as client:
            whole = client.chat.completions.create(model="assistant", messages=HELLO)
            stream = client.chat.completions.create(model="assistant", messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            return whole.choices[0].message.content or "", "".join(pieces)

    whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed != ""


async def test_a_stream_has_openai_s_shape(runtime: Served) -> None:
    chunks = await chunks_of(runtime)
    first, last = chunks[0], chunks[-1]

    assert first.choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert last.choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_usage_comes_in_a_last_chunk_when_it_is_asked_for(runtime: Served) -> None:
    chunks = await chunks_of(runtime, stream_options={"include_usage": True})

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_stream_and_an_answer_say_the_same(runtime: Served) -> None:
    chunks = await chunks_of(runtime)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert streamed == await runtime.ask("assistant", "Hello out there")


async def test_every_role_and_content_shape_is_understood(runtime: Served) -> None:
    pixel = base64.b64encode(b"\x89PNG").decode()
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    }
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "My name is Ada", "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Sunny", "tool_call_id": "call_1"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is sunny."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is my name?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
            ],
        },
    ]
    answer = await runtime.openai.chat.completions.create(model="assistant", messages=messages)
    assert "Ada" in (answer.choices[0].message.content or "")


async def test_the_caller_s_tools_come_back_as_tool_calls(runtime: Served) -> None:
    asked: Any = [{"role": "user", "content": "get_weather in Oslo please"}]
    answer = await runtime.openai.chat.completions.create(
        model="assistant", messages=asked, tools=[WEATHER]
    )
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)

    asked += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"},
    ]
    final = await runtime.openai.chat.completions.create(
        model="assistant", messages=asked, tools=[WEATHER]
    )
    assert "12 degrees" in (final.choices[0].message.content or "")
    assert final.choices[0].finish_reason == "stop"


async def test_tool_calls_stream_with_id_and_name_first(runtime: Served) -> None:
    asked: Any = [{"role": "user", "content": "get_weather in Oslo please"}]
    chunks = await chunks_of(runtime, messages=asked, tools=[WEATHER])
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]

    assert (deltas[0].index, deltas[0].type) == (0, "function")
    assert deltas[0].id
    assert deltas[0].function is not None
    assert deltas[0].function.name == "get_weather"
    assert all(delta.id is None for delta in deltas[1:])
    arguments = "".join(d.function.arguments or "" for d in deltas if d.function)
    assert "city" in json.loads(arguments)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_forced_tool_is_called(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(
        model="assistant", messages=HELLO, tools=[WEATHER], tool_choice="required"
    )
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_limits_and_stops_are_honoured(runtime: Served) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        options: dict[str, Any] = {limit: 3}
        answer = await runtime.openai.chat.completions.create(
            model="assistant", messages=HELLO, **options
        )
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
    stopped = await runtime.ask("assistant", "Hello out there", stop=["out"])
    assert stopped.endswith("Hello ")


async def test_several_choices_are_indexed(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(model="assistant", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]

    chunks = await chunks_of(runtime, n=2)
    ends = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(ends) == [0, 1]


async def test_structured_output_parses(runtime: Served) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    text = await runtime.ask(
        "assistant",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert isinstance(json.loads(text)["city"], str)


async def test_logprobs_are_passed_on(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(
        model="assistant", messages=HELLO, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content


async def test_unknown_fields_are_tolerated(runtime: Served) -> None:
    assert await runtime.ask("assistant", extra_body={"chat_id": "x", "features": {"a": 1}})


async def test_an_agent_is_a_model_by_every_name_it_has(runtime: Served) -> None:
    listed = [model async for model in runtime.openai.models.list()]
    assert [(model.id, model.object) for model in listed] == [("assistant", "model")]

    agents = await runtime.get("/v1/agents")
    id = agents["data"][0]["id"]
    for name in ("assistant", "assistant@v1", id):
        assert (await runtime.openai.models.retrieve(name)).id == name
        assert "[demo]" in await runtime.ask(name)


async def test_an_unknown_model_is_openai_s_error_streaming_or_not(runtime: Served) -> None:
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as error:
            await runtime.openai.chat.completions.create(
                model="nobody", messages=HELLO, stream=stream
            )
        assert (error.value.code, error.value.param) == ("model_not_found", "model")
        assert error.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        await runtime.openai.models.retrieve("nobody")


async def test_a_parameter_that_has_no_effect_is_refused_by_name(runtime: Served) -> None:
    for extra in (
        {"moderation": {"model": "x"}},
        {"audio": {"voice": "x"}},
        {"functions": [{"name": "f"}]},
    ):
        (name,) = extra
        with pytest.raises(openai.BadRequestError) as error:
            await runtime.ask("assistant", extra_body=extra)
        assert (error.value.code, error.value.param) == ("unsupported_parameter", name)


async def test_what_the_configuration_fixes_can_not_be_changed_by_the_caller(
    runtime: Served,
) -> None:
    await runtime.publish(
        name="Fixed", template_id="langgraph-simple-test", template_config={"temperature": 0.3}
    )
    with pytest.raises(openai.BadRequestError) as error:
        await runtime.ask("fixed", temperature=0.9)
    assert (error.value.code, error.value.param) == ("parameter_fixed", "temperature")
    assert await runtime.ask("fixed", temperature=0.3)


async def test_the_answer_carries_the_platform_s_metadata(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(
        model="assistant", messages=HELLO, metadata={"session_id": "s-1", "user_id": "u-1"}
    )
    metadata: Any = answer.metadata
    assert metadata["agent_type"] == "conversation"
    assert metadata["processing_time_ms"] > 0
    assert [step["status"] for step in metadata["execution_steps"]] == ["success"]

    run = await runtime.get(f"/v1/runs/{metadata['run_id']}")
    assert (run["session_id"], run["owner_id"], run["status"]) == ("s-1", "u-1", "completed")
    assert answer.usage is not None
    assert run["usage"]["total_tokens"] == answer.usage.total_tokens


async def test_openai_s_own_clients_get_openai_s_answer_and_nothing_else(runtime: Served) -> None:
    answer = await runtime.openai.chat.completions.create(model="assistant", messages=HELLO)
    assert "metadata" not in answer.model_fields_set


async def test_request_ids_are_kept_when_they_are_sane(runtime: Served) -> None:
    kept = await runtime.http.get("/v1/models", headers={"x-request-id": "abc-123"})
    made = await runtime.http.get("/v1/models", headers={"x-request-id": "a b\tc"})

    assert kept.headers["x-request-id"] == "abc-123"
    assert made.headers["x-request-id"].startswith("req_")


async def test_the_same_answers_come_from_an_openai_wire_upstream(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from tests.upstream import FakeUpstream

    async with (
        FakeUpstream() as upstream,
        serving(
            tmp_path_factory.mktemp("wire"),
            openai_base_url=upstream.base_url,
            openai_api_key="sk-upstream-canary",
        ) as runtime,
    ):
        whole = await runtime.ask("assistant", "Hello out there")
        chunks = await chunks_of(runtime, stream_options={"include_usage": True})
        streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert "Hello out there" in whole == streamed
    assert chunks[-1].usage is not None
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream-canary"
    assert upstream.requests[0].json["messages"][-1]["content"] == "Hello out there"
