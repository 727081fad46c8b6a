"""The runtime in a process of its own, as callers meet it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conformance.suite import Server
from tests.e2e.process import process
from tests.upstream import FakeUpstream

TOKEN = "only-a-token-of-the-tests"
SILENT = {"system_prompt": ""}
AGENTS: tuple[dict[str, Any], ...] = (
    {
        "slug": "demo-chat",
        "template_id": "langgraph-simple-test",
        "llm_config_id": "demo",
        "template_config": SILENT,
    },
    {
        "slug": "react",
        "template_id": "react-agent",
        "llm_config_id": "demo",
        "template_config": {"tools": ["calculator"]},
    },
    {
        "slug": "upstream",
        "template_id": "langgraph-simple-test",
        "llm_config_id": "openai/echo",
        "template_config": SILENT,
    },
)


@asynccontextmanager
async def with_credentials(folder: Path) -> AsyncIterator[Server]:
    """Published agents on the demo model and on one that fails on request, and a caller's key."""
    async with (
        FakeUpstream() as upstream,
        process(
            folder,
            RUNTIME_TOKEN=TOKEN,
            RUNTIME_DEFAULT_MODEL="demo",
            RUNTIME_MODEL_ATTEMPTS="1",
            OPENAI_BASE_URL=upstream.base_url,
            OPENAI_API_KEY="sk-of-the-tests",
        ) as runtime,
        httpx.AsyncClient(
            base_url=runtime.url, headers={"X-Runtime-Token": TOKEN}, timeout=30
        ) as http,
    ):
        for agent in AGENTS:
            body = {"name": agent["slug"], "status": "published", **agent}
            await _made(http, "/v1/agents", body)
        key = await _made(
            http, "/v1/keys", {"name": "caller", "roles": ["viewer"], "scopes": ["models"]}
        )
        yield Server(runtime.url, key["key"])


@asynccontextmanager
async def as_first_started(folder: Path) -> AsyncIterator[Server]:
    async with process(folder) as runtime:
        yield Server(runtime.url, "local")


async def _made(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await http.post(path, json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made
