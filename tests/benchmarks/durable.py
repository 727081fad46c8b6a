"""Durable runs: what they cost, and how long it takes until others know."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, time
from typing import Any

import httpx
import orjson

from runtime.domain.entities.runs import RunStatus
from runtime.domain.events.runs import TextDelta
from runtime.domain.repositories.durable import AttemptEntry
from runtime.infrastructure.database import create_engine
from runtime.infrastructure.repositories.attempt_log import SqlAttemptLog
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.benchmarks.servers import TOKEN, WITH_TOOLS, Server, Target
from tests.contracts.dispatching import an_order
from tests.fakes import Published
from tests.upstream import FakeUpstream, answers
from tests.upstream.wire import Exchange, Recorded

WORDS = 60
TOOLS: Sequence[tuple[str, dict[str, Any]]] = (
    ("calculator", {"expression": "6*7"}),
    ("current_time", {}),
)
"""Called one after the other, each in a turn of its own."""
AT_ONCE = 10
WRITERS, EACH = 8, 8
"""Runs whose events are appended in one batch, and how many of each."""
PATIENCE_S = 60.0
_STAMP = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    """Of as many interactive runs as durable ones, in turns."""
    runs: int
    batches: int
    tokens: int
    cancels: int
    pick_ups: int
    idle_s: float


FULL = Plan(rounds=5, runs=50, batches=200, tokens=100, cancels=9, pick_ups=3, idle_s=10)
QUICK = Plan(rounds=2, runs=20, batches=50, tokens=25, cancels=3, pick_ups=1, idle_s=5)


@dataclass
class Figures:
    """`other`: by way of another process."""

    append_us: list[float] = field(default_factory=list)
    append_cpu_us: float = 0.0
    interactive_cpu_ms: list[float] = field(default_factory=list)
    durable_cpu_ms: list[float] = field(default_factory=list)
    news_ms: list[float] = field(default_factory=list)
    other_news_ms: list[float] = field(default_factory=list)
    cancel_ms: list[float] = field(default_factory=list)
    other_cancel_ms: list[float] = field(default_factory=list)
    pick_up_s: list[float] = field(default_factory=list)
    idle_percent: float = 0.0

    @property
    def times_interactive(self) -> float:
        pairs = zip(self.durable_cpu_ms, self.interactive_cpu_ms, strict=True)
        return median(durable / max(interactive, 0.001) for durable, interactive in pairs)


class Provider(FakeUpstream):
    """Asked for `tools` it calls two of them, one a turn. Its words say when they were said."""

    def __init__(self) -> None:
        super().__init__()
        self.said = asyncio.Semaphore(0)
        """An answer of words has come to its end."""
        self.talks: asyncio.Queue[Recorded] = asyncio.Queue()
        """Requests that are answered in words, as these begin."""

    async def behaviour(self, exchange: Exchange) -> None:
        asked = exchange.asked
        called = sum(message["role"] == "tool" for message in asked["messages"])
        text = answers.last_user_text(asked)
        if "tools" in text and called < len(TOOLS):
            name, arguments = TOOLS[called]
            await answers.calls(name, arguments, id=f"call_{called}")(exchange)
            return
        delay = re.search(r"delay:(\d+)", text)
        words = re.search(r"words:(\d+)", text)
        await self._talk(
            exchange, int(words[1]) if words else WORDS, int(delay[1]) / 1_000 if delay else 0
        )

    async def _talk(self, exchange: Exchange, words: int, delay_s: float) -> None:
        say = exchange.say
        exchange.start()
        await exchange.write(say.opening(calls=False))
        self.talks.put_nowait(exchange.request)
        for _ in range(words):
            if delay_s:
                await asyncio.sleep(delay_s)
            await exchange.write(say.word(f"{time():.6f} "))
        usage = {"prompt_tokens": 12, "completion_tokens": words, "total_tokens": 12 + words}
        await exchange.write(say.ending("stop", usage))
        await exchange.write(say.done)
        await exchange.end()
        self.said.release()


class Door:
    """The runs' routes of one process."""

    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        self.server = server
        self._client = client

    async def chat(self, text: str) -> None:
        messages = [{"role": "user", "content": text}]
        body = {"model": WITH_TOOLS, "messages": messages, "stream": True}
        (await self._client.post("/v1/chat/completions", json=body)).raise_for_status()

    async def order(self, text: str) -> str:
        body = {"model": WITH_TOOLS, "input": text}
        answer = await self._client.post("/v1/runs", json=body)
        return str(answer.raise_for_status().json()["id"])

    async def cancel(self, run: str) -> None:
        (await self._client.post(f"/v1/runs/{run}/cancel")).raise_for_status()

    async def events(self, run: str) -> AsyncIterator[dict[str, Any]]:
        async with self._client.stream("GET", f"/v1/runs/{run}/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield orjson.loads(line.removeprefix("data: "))

    async def ended(self, run: str) -> None:
        last = {}
        async for event in self.events(run):
            last = event
        if last.get("type") != "run.completed":
            raise RuntimeError(f"a run ended otherwise: {last}")


async def measure(target: Target, folder: Path, plan: Plan) -> Figures:
    """`target`: the runtime, with its agents published."""
    figures = Figures()
    async with Provider() as provider:
        ours = replace(target, env={**target.env, "OPENAI_BASE_URL": provider.base_url})
        async with _serving(ours, folder) as first:
            await _warm_up(first, provider)
            await _idle(first, plan, figures)
            await _cost(first, provider, plan, figures)
            figures.news_ms = await _news(first, first, plan.tokens)
            figures.cancel_ms = await _cancels(first, first, provider, plan.cancels)
            if _shared(target):
                api = replace(ours, env={**ours.env, "RUNTIME_ROLE": "api"})
                async with _serving(api, folder) as other:
                    figures.other_news_ms = await _news(first, other, plan.tokens)
                    figures.other_cancel_ms = await _cancels(first, other, provider, plan.cancels)
        for _ in range(plan.pick_ups):
            figures.pick_up_s.append(await _pick_up(ours, folder, provider))
    await _append(target, plan, figures)
    return figures


def _shared(target: Target) -> bool:
    return bool(target.env["RUNTIME_DATABASE_URL"])


def _database(target: Target) -> str:
    file = Path(target.env["RUNTIME_DATA_DIR"]) / "runtime.db"
    return target.env["RUNTIME_DATABASE_URL"] or f"sqlite:///{file}"


@asynccontextmanager
async def _serving(target: Target, folder: Path) -> AsyncIterator[Door]:
    server = await asyncio.to_thread(Server, target, folder)
    try:
        async with httpx.AsyncClient(
            base_url=server.url,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=2 * AT_ONCE),
        ) as client:
            yield Door(server, client)
    finally:
        await asyncio.to_thread(server.stop)


async def _warm_up(door: Door, provider: Provider) -> None:
    await _interactive(door, 2)
    await _durable(door, provider, 2)


async def _idle(door: Door, plan: Plan, figures: Figures) -> None:
    await asyncio.sleep(1)
    before_s = door.server.cpu_s()
    await asyncio.sleep(plan.idle_s)
    figures.idle_percent = (door.server.cpu_s() - before_s) / plan.idle_s * 100


async def _cost(door: Door, provider: Provider, plan: Plan, figures: Figures) -> None:
    async def interactive() -> None:
        await _interactive(door, plan.runs)

    async def durable() -> None:
        await _durable(door, provider, plan.runs)

    for _ in range(plan.rounds):
        figures.interactive_cpu_ms.append(await _cpu_ms(door, interactive) / plan.runs)
        figures.durable_cpu_ms.append(await _cpu_ms(door, durable) / plan.runs)


async def _cpu_ms(door: Door, load: Callable[[], Awaitable[None]]) -> float:
    before_s = door.server.cpu_s()
    await load()
    # What a run leaves to be written is part of its cost.
    await asyncio.sleep(0.3)
    return (door.server.cpu_s() - before_s) * 1_000


async def _interactive(door: Door, runs: int) -> None:
    for start in range(0, runs, AT_ONCE):
        await asyncio.gather(*(door.chat("tools") for _ in range(min(AT_ONCE, runs - start))))


async def _durable(door: Door, provider: Provider, runs: int) -> None:
    """Nobody reads them: whoever does costs extra, as a reader of other runs does."""
    provider.said = asyncio.Semaphore(0)
    last = ""
    for start in range(0, runs, AT_ONCE):
        some = min(AT_ONCE, runs - start)
        *_, last = await asyncio.gather(*(door.order("tools") for _ in range(some)))
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(some):
                await provider.said.acquire()
    await door.ended(last)


async def _news(worker: Door, reader: Door, tokens: int) -> list[float]:
    """From when the provider says a word until whoever reads the run's events has it."""
    run = await worker.order(f"words:{tokens} delay:50")
    waits: list[float] = []
    async for event in reader.events(run):
        if event["type"] == "text.delta":
            now = time()
            waits += [(now - float(said)) * 1_000 for said in _STAMP.findall(event["text"])]
    return waits


async def _cancels(worker: Door, door: Door, provider: Provider, times: int) -> list[float]:
    """From when it is asked for until the provider is hung up on."""
    waits = []
    for _ in range(times):
        request, run = await _talking(worker, provider)
        since = perf_counter()
        await door.cancel(run)
        async with asyncio.timeout(PATIENCE_S):
            await request.closed.wait()
        waits.append((perf_counter() - since) * 1_000)
    return waits


async def _pick_up(target: Target, folder: Path, provider: Provider) -> float:
    """From `kill -9` until another process asks the provider again, or, where there is but one
    at a time, from when the next one is ready."""
    async with _serving(target, folder) as first:
        _, run = await _talking(first, provider)
        if _shared(target):
            async with _serving(target, folder) as second:
                first.server.signal(signal.SIGKILL)
                return await _again(second, provider, run)
        first.server.signal(signal.SIGKILL)
        async with _serving(target, folder) as next:
            return await _again(next, provider, run)


async def _again(door: Door, provider: Provider, run: str) -> float:
    since = perf_counter()
    async with asyncio.timeout(PATIENCE_S):
        await provider.talks.get()
    wait_s = perf_counter() - since
    await door.cancel(run)
    return wait_s


async def _talking(door: Door, provider: Provider) -> tuple[Recorded, str]:
    """A run whose model is in the middle of a long answer."""
    while not provider.talks.empty():
        provider.talks.get_nowait()
    run = await door.order("words:1000 delay:100")
    async with asyncio.timeout(PATIENCE_S):
        return await provider.talks.get(), run


async def _append(target: Target, plan: Plan, figures: Figures) -> None:
    """In this process; the server has ended."""
    engine = create_engine(_database(target))
    try:
        runs = [replace(an_order(), status=RunStatus.RUNNING, attempt=1) for _ in range(WRITERS)]
        async with sql_unit_of_work(engine, Published(), runs[0].scope) as work:
            for run in runs:
                await work.durable.add(run)
            await work.commit()
        log = SqlAttemptLog(engine)
        said = [TextDelta(f"token {n} ") for n in range(EACH)]

        async def batch(number: int) -> None:
            after = number * EACH
            await log.append([AttemptEntry(run.id, run.scope, 1, after, said) for run in runs])

        await batch(0)
        cpu_s = process_time()
        for number in range(1, plan.batches + 1):
            since = perf_counter()
            await batch(number)
            figures.append_us.append((perf_counter() - since) * 1e6 / (WRITERS * EACH))
        events = plan.batches * WRITERS * EACH
        figures.append_cpu_us = (process_time() - cpu_s) * 1e6 / events
    finally:
        await engine.dispose()
