"""Odd bodies get a verdict, never a 5xx, the same one on both databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.server import Served, serving
from tests.postgres import fresh_database

OK: dict[str, Any] = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
MANY_PARTS = [{"role": "user", "content": [{"type": "text", "text": "x"}] * 257}]
TOOL_CALL_ID = "messages.0.tool_call_id"
FILE = "messages.0.content.0.file"
LARGE_TOOL = {"type": "function", "function": {"name": "x"}}
DRAFT: dict[str, Any] = {"name": "Bot", "template_id": "langgraph-simple-test"}


HI = {"role": "user", "content": "Hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "x", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "done", "tool_call_id": "call_1"}


def said(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


def image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, name: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name)]}}


pytestmark = pytest.mark.asyncio(loop_scope="module")


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
    folder = tmp_path_factory.mktemp("bad-input")
    async with serving(folder, database_url=database_url, max_body_bytes=20_000) as served:
        yield served


async def raw(runtime: Served, path: str, body: bytes, kind: str = "application/json") -> Any:  # noqa: ANN401
    return await runtime.http.post(path, content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b'{"model": "assistant", "messages": NaN}',
        b'{"model": "assistant", "temperature": 1e400, "messages": []}',
        b'{"model": "assistant", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "assistant", "messages": [{"role": "user", "content": "\\u0000"}]}',
        b'{"model": "assistant", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "assistant", "metadata": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"model": "assistant", "metadata": ' + b"[" * 5000,
        b"\xef\xbb\xbf{}",
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/agents"])
async def test_what_is_not_plain_json_is_refused(runtime: Served, path: str, body: bytes) -> None:
    response = await raw(runtime, path, body)

    assert response.status_code == 400
    assert "error" in response.json()


async def test_another_content_type_is_refused_with_the_right_one(runtime: Served) -> None:
    response = await raw(runtime, "/v1/chat/completions", b'{"model": "x"}', "text/plain")

    assert response.status_code == 400
    assert "application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 10_000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"logprobs": 1}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"metadata": {"session_id": 5}}, "metadata.session_id"),
        ({"metadata": {"user_id": "x" * 300}}, "metadata.user_id"),
        ({"metadata": {"note": "x" * 16_000}}, "metadata"),
        ({"metadata": {f"key{number}": 1 for number in range(65)}}, "metadata"),
        ({"messages": MANY_PARTS}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "x" * 300}]}, TOOL_CALL_ID),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, FILE),
        ({"logit_bias": {"50256": 101}}, "logit_bias.50256"),
        ({"stop": "x" * 1_001}, "stop"),
        ({"tools": [LARGE_TOOL] * 129}, "tools"),
        ({"seed": 2**63}, "seed"),
        ({"messages": None}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["Hi"]}, "messages.0"),
        ({"messages": [{"content": "Hi"}]}, "messages.0"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0"),
        (said({"role": "user", "content": []}), "messages.0.content"),
        (said({"role": "user", "content": [{"type": "video"}]}), "messages.0.content.0"),
        (said({"role": "user", "content": [{"type": "text"}]}), "messages.0.content.0.text"),
        (said(image("ftp://x")), "messages.0.content.0.image_url.url"),
        (said(image("data:text/html,x")), "messages.0.content.0.image_url.url"),
        (said({"role": "user", "content": "x", "name": 5}), "messages.0.name"),
        (said({"role": "system", "content": [{"type": "refusal"}]}), "messages.0.content.0.type"),
        (said({"role": "assistant"}), "messages.0"),
        (said({"role": "assistant", "audio": {"id": "a"}}), "messages.0.audio"),
        (said({"role": "assistant", "function_call": {"name": "f"}}), "messages.0.function_call"),
        (said({"role": "tool", "content": "x"}), "messages.0.tool_call_id"),
        (said(RESULT), "messages.0.role"),
        (said(CALLING, RESULT | {"tool_call_id": "call_9"}), "messages.1.tool_call_id"),
        (said(CALLING, HI, RESULT), "messages.0.tool_calls"),
        (said(HI, CALLING), "messages.1.tool_calls"),
        (said(CALLING, RESULT, HI, RESULT), "messages.3.role"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [LARGE_TOOL, LARGE_TOOL]}, "tools.1.function.name"),
        ({"tools": [LARGE_TOOL], "tool_choice": named("y")}, "tool_choice"),
        ({"tools": [LARGE_TOOL], "tool_choice": allowed("auto", "y")}, "tool_choice"),
        (
            {"tools": [LARGE_TOOL], "tool_choice": allowed("never", "x")},
            "tool_choice.allowed_tools.mode",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "text", "json_schema": 5}}, "response_format.json_schema"),
        ({"service_tier": "golden"}, "service_tier"),
        ({"verbosity": "chatty"}, "verbosity"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {}}, "audio"),
        ({"prediction": {}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": []}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"moderation": {}}, "moderation"),
        ({"store": 1}, "store"),
        ({"prompt_cache_options": "1h"}, "prompt_cache_options"),
        ({"stop": []}, "stop"),
        ({"stop": 5}, "stop"),
    ],
)
async def test_a_wrong_type_names_its_parameter(
    runtime: Served, change: dict[str, Any], param: str
) -> None:
    response = await runtime.http.post("/v1/chat/completions", json=OK | change)
    error = response.json()["error"]

    assert response.status_code == 400
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


async def test_a_tool_s_schema_has_a_bound(tmp_path: Path) -> None:
    parameters = {"type": "object", "description": "x" * 64_000}
    tool = {"type": "function", "function": {"name": "x", "parameters": parameters}}
    async with serving(tmp_path) as runtime:
        response = await runtime.http.post("/v1/chat/completions", json=OK | {"tools": [tool]})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools.0.function.parameters"


@pytest.mark.parametrize("body", [b"[" + b"[]," * 110_000 + b"[]]", b"[" + b"1," * 110_000 + b"1]"])
async def test_a_great_many_values_are_refused_but_not_a_long_text(
    tmp_path: Path, body: bytes
) -> None:
    async with serving(tmp_path) as runtime:
        refused = await raw(runtime, "/v1/chat/completions", body)
        text = {"messages": [{"role": "user", "content": '{"a": [1,2,3], ' * 110_000}]}
        taken = await runtime.http.post("/v1/chat/completions", json=OK | text)

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert "more than 100000 values" in refused.json()["error"]["message"]


async def test_the_input_is_never_echoed(runtime: Served) -> None:
    canary = "canary-5f1c"
    for path, body in (
        ("/v1/chat/completions", OK | {"temperature": canary}),
        ("/v1/chat/completions", OK | {"messages": canary}),
        ("/v1/agents", DRAFT | {"template_config": {"temperature": canary}}),
        ("/v1/agents", DRAFT | {"status": canary}),
    ):
        response = await runtime.http.post(path, json=body)
        assert response.status_code in (400, 422)
        assert canary not in response.text


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"template_config": {"nonsense": 1}}, 422, "template_config.nonsense"),
        ({"template_config": {"temperature": 9}}, 422, "template_config.temperature"),
        ({"template_config": []}, 400, "template_config"),
        ({"colour": "red"}, 400, "colour"),
        ({"name": ""}, 400, "name"),
        ({"name": "!!!"}, 400, "name"),
        ({"slug": "Not A Slug"}, 400, "slug"),
        ({"id": "../etc"}, 400, "id"),
        ({"template_id": "nobody"}, 404, "template_id"),
        ({"template_version_id": "9.9.9"}, 404, "template_id"),
        ({"llm_config_id": "nobody/x"}, 400, "llm_config_id"),
        ({"version_number": "seven"}, 400, "version_number"),
        ({"status": "revoked"}, 400, "status"),
        ({"toolsets": ["rm"]}, 422, "template_config.tools"),
    ],
)
async def test_a_bad_agent_is_refused_by_field_and_not_stored(
    runtime: Served, change: dict[str, Any], status: int, param: str
) -> None:
    before = await runtime.get("/v1/agents")
    refused = await runtime.post("/v1/agents", DRAFT | change, status=status)

    assert set(refused) == {"error", "message", "details"}
    assert refused["details"]["param"] == param
    assert await runtime.get("/v1/agents") == before


async def test_odd_paths_and_queries_are_refused(runtime: Served) -> None:
    for path, status in (
        ("/v1/agents/nobody", 404),
        ("/v1/agents/a@b@c", 400),
        ("/v1/agents/%00", 400),
        ("/v1/agents?limit=0", 400),
        ("/v1/agents?limit=9999999999999999999999", 400),
        ("/v1/agents?after=garbage", 400),
        ("/v1/agents?status=alive", 400),
        ("/v1/agents?q=%00", 400),
        ("/v1/agents?slug=%00", 400),
        ("/v1/runs?agent_id=%00", 400),
        ("/v1/runs/nobody", 404),
        ("/v1/runs/%00", 400),
        ("/v1/models/nobody", 404),
        ("/v1/models/%00", 400),
        ("/v1/models/some/one", 404),
        ("/v1/chat/completions/nobody", 404),
        ("/v1/chat/completions/%00", 400),
        ("/v1/chat/completions/nobody/messages", 404),
        ("/v1/chat/completions?limit=0", 400),
        ("/v1/chat/completions?limit=101", 400),
        ("/v1/chat/completions?order=up", 400),
        ("/v1/chat/completions?after=nobody", 400),
        ("/v1/chat/completions?model=%00", 400),
        ("/v1/chat/completions?metadata[a]=%00", 400),
        ("/v1/templates/nobody", 404),
        ("/v1/templates/react-agent/9.9.9", 404),
        ("/v1/nowhere", 404),
    ):
        response = await runtime.http.get(path)
        assert response.status_code == status, path
        assert "error" in response.json()


async def test_a_body_over_the_limit_is_413_announced_or_not(runtime: Served) -> None:
    large = b'{"model": "' + b"x" * 30_000 + b'"}'

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    for content in (large, unannounced()):
        response = await runtime.http.post(
            "/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "payload_too_large"
    assert (await runtime.http.get("/healthz")).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ["model", "messages", "stream", "n", "stop", "tools", "metadata", "response_format"]
AGENT_FIELDS = ["name", "slug", "id", "template_config", "version_number", "owner_id", "toolsets"]


async def test_no_json_brings_the_server_down(runtime: Served) -> None:
    """Hundreds of odd bodies: every one gets a verdict below 500."""
    bodies: list[tuple[str, dict[str, Any]]] = []

    @settings(
        max_examples=150,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    )
    @given(st.sampled_from(FIELDS), st.sampled_from(AGENT_FIELDS), JSON)
    def collect(field: str, agent_field: str, value: object) -> None:
        bodies.append(("/v1/chat/completions", OK | {field: value}))
        bodies.append(("/v1/agents", DRAFT | {agent_field: value}))

    collect()
    for path, body in bodies:
        response = await raw(runtime, path, dumps(body))
        assert response.status_code < 500, (path, body, response.text)


def dumps(body: dict[str, Any]) -> bytes:
    """As the standard library writes it: NaN, Infinity and lone surrogates included."""
    import json

    return json.dumps(body).encode()


async def test_a_slow_sender_holds_nobody_up(runtime: Served) -> None:
    async with httpx.AsyncClient(base_url=runtime.url) as other:
        reader = await _half_a_request(runtime)
        assert (await other.get("/healthz")).status_code == 200
        reader.close()


async def _half_a_request(runtime: Served) -> Any:  # noqa: ANN401
    import asyncio

    host, port = runtime.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
    await writer.drain()
    return writer
