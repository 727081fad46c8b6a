"""An agent that is moved from one provider to another looks the same from outside."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.server import Json, Served, serving
from tests.upstream import FakeUpstream

TYPES = ("openai", "azure_openai", "huggingface", "local", "anthropic")
TOOLS = {"tools": ["calculator"]}


def providers(upstream: FakeUpstream) -> dict[str, Any]:
    return {
        f"my_{kind}": {
            "type": kind,
            "base_url": upstream.azure_url if kind == "azure_openai" else upstream.base_url,
            "api_key": "sk-test-0123456789",
            "default_model": "fake-1",
        }
        for kind in TYPES
    }


async def events_of(served: Served, agent: str, text: str) -> Sequence[Json]:
    body = {"message": text, "agent_id": agent, "stream_format": "jsonl"}
    response = await served.http.post("/api/streaming/chat", json=body)
    assert response.status_code == 200, response.text
    return [orjson.loads(line) for line in response.text.splitlines()]


def shape(events: Sequence[Json]) -> list[str]:
    """Their types in order, however many pieces a text came in."""
    return [kind for kind, _ in groupby(event["type"] for event in events)]


@pytest.mark.parametrize(
    "text", ["Tell me something", 'Use calculator with {"expression": "6 * 7"}']
)
async def test_its_events_have_one_shape_wherever_its_model_is(tmp_path: Path, text: str) -> None:
    async with FakeUpstream() as upstream:
        table = providers(upstream)
        async with serving(tmp_path, providers=table) as served:
            agent = await served.create(
                name="Sums",
                slug="sums",
                template_id="react-agent",
                template_config=TOOLS,
                llm_config_id="my_openai",
            )
            seen = {}
            for kind in TYPES:
                moved = await served.http.patch(
                    f"/v1/agents/{agent['id']}", json={"llm_config_id": f"my_{kind}"}
                )
                assert moved.status_code == 200, moved.text
                seen[kind] = await events_of(served, "sums@draft", text)
    shapes = {kind: shape(events) for kind, events in seen.items()}
    assert shapes == dict.fromkeys(TYPES, shapes["openai"])
    assert shapes["openai"][-1] == "done"
    texts = {
        "".join(event["content"] for event in events if event["type"] == "text-delta")
        for events in seen.values()
    }
    assert len(texts) == 1
