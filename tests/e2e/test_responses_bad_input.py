"""What `POST /v1/responses` refuses, naming it, the same on both databases."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.server import Served, serving
from tests.postgres import fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK: dict[str, Any] = {"model": "assistant", "input": "Hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "paid"}
PAY = {"type": "function", "name": "pay"}
JSON_SCHEMA = {"type": "json_schema", "name": "x"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with fresh_database() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("bad-responses")
    async with serving(folder, database_url=database_url) as served:
        yield served


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "computer_call"}]}, "input.0"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.message.role"),
        ({"input": [CALL]}, "input"),
        ({"input": [OUTPUT]}, "input"),
        ({"input": [CALL, {"role": "user", "content": "x"}, OUTPUT]}, "input"),
        ({"input": [CALL, OUTPUT, OUTPUT]}, "input"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": "1"}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"include": ["nonsense"]}, "include.0"),
        ({"truncation": "some"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [PAY, {"type": "mcp", "server_label": "x"}]}, "tools.1.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [PAY | {"name": "a b"}]}, "tools.0.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [PAY], "tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
        ({"tools": [PAY], "tool_choice": {"type": "function"}}, "tool_choice"),
        (
            {
                "tools": [PAY],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "ship"}],
                },
            },
            "tool_choice",
        ),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": JSON_SCHEMA}}, "text.format"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"background": True, "store": False}, "background"),
        ({"previous_response_id": "resp_404"}, "previous_response_id"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": 5}}, "conversation.id"),
        ({"text": {"format": {**JSON_SCHEMA, "schema": {}, "strict": True}}}, "text.format"),
        ({"conversation": "my own name"}, "conversation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"service_tier": "express"}, "service_tier"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    ],
)
async def test_what_can_t_be_honoured_is_refused_by_name(
    runtime: Served, change: dict[str, Any], param: str
) -> None:
    response = await runtime.http.post("/v1/responses", json=OK | change)
    error = response.json()["error"]

    assert response.status_code == 400, error
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "change",
    [
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
        {"input": [CALL, OUTPUT]},
        {"include": ["reasoning.encrypted_content", "web_search_call.action.sources"]},
        {"reasoning": {"summary": "auto"}},
        {"service_tier": "flex", "truncation": "disabled", "metadata": {}},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"text": {"format": {"type": "text"}}, "user": "u", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "nonsense": 1},
    ],
)
async def test_what_is_harmless_is_taken(runtime: Served, change: dict[str, Any]) -> None:
    response = await runtime.http.post("/v1/responses", json=OK | change)

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "order=up", "after=msg_404", "include=nonsense"]
)
async def test_odd_pages_of_input_items_are_refused(runtime: Served, query: str) -> None:
    made = await runtime.post("/v1/responses", OK)
    path = f"/v1/responses/{made['id']}/input_items"

    assert "error" in await runtime.get(f"{path}?{query}", status=400)


@pytest.mark.parametrize("query", ["stream=maybe", "starting_after=-1", "include[]=nonsense"])
async def test_odd_questions_about_a_response_are_refused(runtime: Served, query: str) -> None:
    made = await runtime.post("/v1/responses", OK)

    assert "error" in await runtime.get(f"/v1/responses/{made['id']}?{query}", status=400)


async def test_a_conversation_that_is_not_there_is_named_as_the_parameter(
    runtime: Served,
) -> None:
    refused = await runtime.post("/v1/responses", {**OK, "conversation": "conv_404"}, status=404)

    assert refused["error"]["param"] == "conversation"
    assert refused["error"]["code"] == "conversation_not_found"
