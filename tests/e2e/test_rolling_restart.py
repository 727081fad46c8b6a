"""Replicas are restarted one after the other, under load: nobody notices."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.chaos.fleet import Fleet, fleet
from tests.e2e.balancer import balancing
from tests.postgres import fresh_database
from tests.upstream import FakeUpstream

PER_SECOND = 50
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Callers:
    """Whatever callers do, at a steady rate, on connections of their own."""

    http: httpx.AsyncClient
    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    async def call_until(self, done: asyncio.Event) -> None:
        most = (self.look, self.ask, self.stream, self.ask, self.look) * 4
        kinds = cycle((*most[1:], self.order))
        since = monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while not done.is_set():
                group.create_task(self._one(next(kinds), number))
                number += 1
                await asyncio.sleep(max(0.0, since + number / PER_SECOND - monotonic()))

    async def _one(self, kind: Any, number: int) -> None:  # noqa: ANN401 - one of the below
        try:
            await kind(number)
        except (httpx.TransportError, AssertionError) as error:
            self.failed.append(f"{kind.__name__} {number}: {error!r}")
        else:
            self.answered[kind.__name__] += 1

    async def look(self, _number: int) -> None:
        answer = await self.http.get("/v1/models")
        assert answer.status_code == 200, answer.text

    async def ask(self, number: int) -> None:
        answer = await self.http.post("/v1/chat/completions", json=_chat(f"number {number}"))
        assert answer.status_code == 200, answer.text
        assert f"number {number}" in answer.json()["choices"][0]["message"]["content"]

    async def stream(self, number: int) -> None:
        body = _chat(f"words:10 delay:20 number {number}", stream=True)
        lines: list[str] = []
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            lines = [line async for line in answer.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines[-1]
        texts = [json.loads(line[6:])["choices"] for line in lines[:-1]]
        assert "word9" in "".join(t[0]["delta"].get("content") or "" for t in texts if t)

    async def order(self, number: int) -> None:
        body = {"model": "assistant", "input": f"words:8 delay:20 number {number}"}
        answer = await self.http.post("/v1/runs", json=body)
        assert answer.status_code == 202, answer.text
        self.runs.append(answer.json()["id"])


def _chat(text: str, *, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "assistant", "messages": messages, "stream": stream}


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(FakeUpstream())
        url = opened.enter_context(fresh_database())
        variables = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "sk-test",
            "RUNTIME_SECRET_KEY": "a-key-that-both-replicas-have",
            "RUNTIME_DRAIN_DELAY_S": "0.5",
            "RUNTIME_GRACE_S": "5",
        }
        yield await opened.enter_async_context(
            fleet(tmp_path, variables, [(url, None)] * 2, cold=True)
        )


async def test_a_rolling_restart_under_load_fails_no_request(replicas: Fleet) -> None:
    limits = httpx.Limits(max_keepalive_connections=0)
    done = asyncio.Event()
    async with (
        balancing(replicas.urls) as balancer,
        httpx.AsyncClient(base_url=balancer.url, timeout=20, limits=limits) as http,
    ):
        callers = Callers(http)
        calling = asyncio.create_task(callers.call_until(done))
        for replica in replicas.replicas:
            assert await replica.term(20) == 0, replica.last_lines()
            await replica.start(cold=True)
            await balancer.until_ready(2)
        done.set()
        await calling

        assert not callers.failed
        assert set(callers.answered) == {"look", "ask", "stream", "order"}
        assert callers.answered.total() > 4 * PER_SECOND
        for run in callers.runs:
            assert await _ended(http, run) == "completed"


async def _ended(http: httpx.AsyncClient, run: str) -> str:
    async with asyncio.timeout(20):
        while True:
            found = (await http.get(f"/v1/runs/{run}")).json()
            if found["status"] in ENDED:
                return str(found["status"])
            await asyncio.sleep(0.1)
