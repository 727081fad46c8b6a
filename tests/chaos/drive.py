"""Callers: they order runs, follow them through whatever happens, and answer what they are asked.

A caller who gets no answer asks again under the same key; one whose stream breaks off goes on
behind the last event it saw, wherever there is a replica.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
import httpx2
import openai
from openai import AsyncOpenAI

from tests.chaos.fleet import Fleet
from tests.chaos.model import Errand
from tests.chaos.toolserver import ToolServer

Json = dict[str, Any]
ENDS = ("run.completed", "run.failed", "run.cancelled")
RESPONSE_ENDS = ("response.completed", "response.failed", "response.incomplete")
TIMEOUT_S = 8.0
ONCE, REPEATABLE = "charge", "lookup"
"""Two tools: one that must not be called twice, and one that may be, under the same key."""


@dataclass
class Order:
    """One run from its caller's side."""

    errand: Errand
    agent: str
    run_id: str = ""
    """Empty until it is acknowledged."""
    response_id: str = ""
    """Where it was ordered as a response."""
    events: list[Json] = field(default_factory=list)
    """As they came, over all connections: of the run, or of the response."""
    connections: int = 0
    ended: bool = False
    took_s: float = 0.0

    def __str__(self) -> str:
        told = [event["type"] for event in self.events]
        return f"{self.errand} as {self.agent} ({self.run_id or self.response_id}): {told}"


class Load:
    def __init__(self, fleet: Fleet, tools: ToolServer, seed: int) -> None:
        self._fleet = fleet
        self._tools = tools
        self._chance = random.Random(seed)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S)
        self._openai = AsyncOpenAI(
            base_url="http://nowhere", api_key="local", max_retries=0, timeout=TIMEOUT_S
        )
        self._numbers = itertools.count()
        self._seed = seed
        self.enough = False
        self.orders: list[Order] = []
        self.violations: Counter[str] = Counter()
        """How often each."""
        self.decisions: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    async def close(self) -> None:
        await self._http.aclose()
        await self._openai.close()

    async def caller(self) -> None:
        """One order after the other, until there are enough."""
        while not self.enough:
            order = self._next_order()
            self.orders.append(order)
            since = monotonic()
            if order.agent == "errands" and self._chance.random() < 0.4:
                await self._as_response(order)
            else:
                await self._as_run(order)
            order.ended = True
            order.took_s = monotonic() - since

    def _next_order(self) -> Order:
        id = f"e{self._seed}-{next(self._numbers)}"
        branching = self._chance.random() < 0.3
        count = self._chance.randint(1, 4) if branching else self._chance.randint(0, 3)
        tools = [self._chance.choice((ONCE, ONCE, REPEATABLE)) for _ in range(count)]
        calls = tuple((tool, f"{id}-{number}") for number, tool in enumerate(tools))
        errand = Errand(
            id,
            calls,
            at_once=self._chance.randint(1, 2),
            words=self._chance.randint(1, 20),
            delay_ms=self._chance.randint(2, 15),
        )
        return Order(errand, "branches" if branching else "errands")

    async def sure(self, path: str, **params: object) -> Json:
        """While all is well. What is refused now is no use asking for again."""
        before = self.violations.total()
        accept = {"Accept": "application/json"}
        async with asyncio.timeout(30):
            while not (found := await self.ask("GET", path, params=params, headers=accept)):
                assert self.violations.total() == before, list(self.violations)[-1]
        return found

    async def read_response(self, order: Order) -> None:
        """All its events, once more from the start."""
        async with asyncio.timeout(30):
            await self._as_response(order)

    async def ask(self, method: str, path: str, **options: Any) -> Json | None:  # noqa: ANN401
        """None: no answer, or not yet."""
        urls = self._fleet.urls()
        if not urls:
            await asyncio.sleep(0.1)
            return None
        try:
            answer = await self._http.request(method, self._chance.choice(urls) + path, **options)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            return None
        if answer.is_success:
            body: Json = answer.json()
            return body
        self._refused(f"{method} {path}", answer)
        await asyncio.sleep(0.1)
        return None

    def _refused(self, what: str, answer: httpx.Response | httpx2.Response) -> None:
        """Only "not now" is an answer while things fail."""
        self.counts[f"{answer.status_code}"] += 1
        later = answer.status_code == 503 and "Retry-After" in answer.headers
        in_use = answer.status_code == 409 and "idempotency_key_in_use" in answer.text
        if not (later or in_use):
            self.violations[f"{what}: {answer.status_code} {answer.text[:500]}"] += 1

    async def _as_run(self, order: Order) -> None:
        body = {
            "model": order.agent,
            "input": order.errand.text(),
            "metadata": {"errand": order.errand.id},
        }
        key = {"Idempotency-Key": order.errand.id}
        while not (made := await self.ask("POST", "/v1/runs", json=body, headers=key)):
            pass
        order.run_id = made["id"]
        while not (order.events and order.events[-1]["type"] in ENDS):
            if url := await self._somewhere():
                order.connections += 1
                try:
                    await self._follow(order, url)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    async def _somewhere(self) -> str:
        urls = self._fleet.urls()
        if not urls:
            await asyncio.sleep(0.1)
        return self._chance.choice(urls) if urls else ""

    async def _follow(self, order: Order, url: str) -> None:
        """Some of the events behind the last one, or all."""
        last = order.events[-1]["seq"] if order.events else 0
        patience = self._chance.choice((3, 20, 10_000, 10_000))
        by_header = self._chance.random() < 0.5
        asked = self._http.stream(
            "GET",
            f"{url}/v1/runs/{order.run_id}/events",
            params={} if by_header or not last else {"after": last},
            headers={"Last-Event-ID": str(last)} if by_header and last else {},
        )
        async with asked as answer:
            if not answer.is_success:
                await answer.aread()
                self._refused("events", answer)
                await asyncio.sleep(0.1)
                return
            seq = 0
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    seq = int(line[4:])
                elif line.startswith("data: "):
                    said = json.loads(line[6:])
                    if "error" in said:
                        self._broken_off(said["error"])
                        return
                    order.events.append({**said, "seq": seq})
                    patience -= 1
                if not patience:
                    return

    def _broken_off(self, error: Json) -> None:
        """A stream says why it can't go on: no event of the run."""
        self.counts[error["code"]] += 1
        if error["code"] not in ("draining", "database_unavailable"):
            self.violations[f"a stream broke off: {error}"] += 1

    async def _as_response(self, order: Order) -> None:
        while not (order.events and order.events[-1]["type"] in RESPONSE_ENDS):
            if url := await self._somewhere():
                order.connections += 1
                try:
                    await self._follow_response(order, f"{url}/v1")
                except openai.APIStatusError as refused:
                    self._refused("responses", refused.response)
                    await asyncio.sleep(0.1)
                except (openai.APIError, httpx2.TransportError):
                    await asyncio.sleep(0.05)

    async def _follow_response(self, order: Order, url: str) -> None:
        responses = self._openai.with_options(base_url=url).responses
        stream: Any
        if not order.response_id:
            stream = await responses.create(
                model=order.agent,
                input=order.errand.text(),
                background=True,
                stream=True,
                metadata={"errand": order.errand.id},
                extra_headers={"Idempotency-Key": order.errand.id},
            )
        elif order.events:
            last = order.events[-1]["sequence_number"]
            stream = await responses.retrieve(order.response_id, stream=True, starting_after=last)
        else:
            stream = await responses.retrieve(order.response_id, stream=True)
        patience = self._chance.choice((3, 20, 10_000, 10_000))
        async with stream:
            async for event in stream:
                if event.type == "error":
                    self._broken_off(event.model_dump())
                    return
                order.events.append(event.model_dump())
                if event.type == "response.created":
                    order.response_id = event.response.id
                patience -= 1
                if not patience:
                    return

    async def operator(self) -> None:
        """The person who is asked what became of a call. They look where it was made to."""
        while True:
            await asyncio.sleep(0.2)
            if self._fleet.settled:
                await self._decide_all()

    async def _decide_all(self) -> None:
        found = await self.ask("GET", "/v1/approvals", params={"status": "pending"})
        for approval in found["data"] if found else ():
            token = approval["arguments"]["token"]
            if self._fleet.settled and not self._tools.at_work(token):
                await self._decide(approval, token)

    async def _decide(self, approval: Json, token: str) -> None:
        if approval["kind"] != "outcome_unknown" or approval["tool"] != ONCE:
            self.violations[f"a person was asked: {approval}"] += 1
        made = self._tools.done[token] > 0
        said = (
            {"decision": "edit", "value": f"result-{token}-1"} if made else {"decision": "approve"}
        )
        path = f"/v1/runs/{approval['run_id']}/approvals/{approval['id']}"
        if await self.ask("POST", path, json=said):
            self.decisions["was made" if made else "make it again"] += 1
