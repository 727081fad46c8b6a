"""Many callers at once, some of whom leave, and a provider that fails: `make load`.

The runtime, its provider and the callers are processes of their own; the runtime is looked at
from outside, in /proc.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter

import aiohttp
import orjson

from tests.e2e.process import REPOSITORY, Process, process

CONCURRENCY = 50
WORDS = 64
ANSWER = "".join(f"word{number} " for number in range(WORDS)).strip()
FIRST_LEAVES_AFTER_S = 0.05


class Unexpected(Exception):
    """An outcome that nobody injected."""


@dataclass(frozen=True)
class Resources:
    descriptors: int
    """Without the pool of connections to the provider."""
    connections: int
    """Of callers."""
    threads: int
    resident_mb: float

    @classmethod
    def of(cls, runtime: Process, upstream_port: int) -> "Resources":
        own, provider = _ports(runtime.pid)
        port = int(runtime.url.rpartition(":")[2])
        pooled = provider.count(upstream_port)
        return cls(
            descriptors=runtime.descriptors() - pooled,
            connections=own.count(port),
            threads=len(os.listdir(f"/proc/{runtime.pid}/task")),
            resident_mb=runtime.resident_mb(),
        )


def _ports(pid: int) -> tuple[list[int], list[int]]:
    """The local and the remote ports of a process's connections."""
    names = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(entry.path))
        except FileNotFoundError:  # closed meanwhile
            continue
    inodes = {name[8:-1] for name in names if name.startswith("socket:[")}
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    mine = [row for row in rows if row[9] in inodes and row[3] != "0A"]
    local, remote = ([int(row[at].rpartition(":")[2], 16) for row in mine] for at in (1, 2))
    return local, remote


@dataclass
class Load:
    runtime: Process
    upstream_port: int
    callers: aiohttp.ClientSession

    def resources(self) -> Resources:
        return Resources.of(self.runtime, self.upstream_port)

    async def idle(self) -> Resources:
        """What is held once nothing runs and no caller is connected."""
        return await self.settled(Resources(sys.maxsize, 0, 0, 0))

    async def settled(self, most: Resources) -> Resources:
        """What is held once nothing runs; waits for it to come back to `most`, but not for ever."""
        for _ in range(100):
            running, found = await self._running(), self.resources()
            if not running and found.connections <= most.connections:
                return found
            await asyncio.sleep(0.1)
        return self.resources()

    async def streams(self, count: int) -> list[float]:
        """`count` at once, each of which has to be whole and in order. How long /healthz took."""
        return await self._at_once(self.stream, count)

    async def sockets(self, count: int) -> list[float]:
        """The same over WebSockets."""
        return await self._at_once(self.socket, count)

    async def _at_once(self, ask: Callable[[str], Awaitable[None]], count: int) -> list[float]:
        answered: list[float] = []
        probing = asyncio.create_task(self._probe(answered))
        try:
            await asyncio.gather(*(ask(f"delay:20 words:{WORDS}") for _ in range(count)))
        finally:
            probing.cancel()
        return answered

    async def requests(self, count: int) -> Counter[str]:
        """Of every ten, one leaves and one meets a fault of the provider."""
        kinds = [kind for kind, _ in KINDS]
        weights = [weight for _, weight in KINDS]
        chosen = Random(7).choices(kinds, weights, k=count)
        queue = iter(chosen)
        outcomes: Counter[str] = Counter()

        async def caller() -> None:
            for kind in queue:
                await kind(self)
                outcomes[kind.__name__] += 1

        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
        return outcomes

    async def stream(self, text: str) -> None:
        events = [event async for event in self._events(text)]
        said = "".join(
            choice["delta"].get("content") or ""
            for event in events[:-1]
            for choice in orjson.loads(event)["choices"]
        )
        if events[-1] != b"[DONE]" or said.strip() != ANSWER:
            raise Unexpected(events[-1], said)

    async def socket(self, text: str) -> None:
        async with self._spoken(text) as socket:
            frames = [orjson.loads(message.data) async for message in _to_the_end(socket)]
        events = [each["data"] for each in frames if each["message_type"] == "stream_event"]
        said = "".join(each["event_data"].get("content", "") for each in events)
        numbers = [each["event_number"] for each in events]
        if said.strip() != ANSWER or numbers != list(range(1, len(events) + 1)):
            raise Unexpected(frames)

    async def whole(self) -> None:
        async with self._ask(f"words:{WORDS}", stream=False) as response:
            body = await response.json()
            if response.status != 200 or body["choices"][0]["message"]["content"] != ANSWER:
                raise Unexpected(body)

    async def fast_stream(self) -> None:
        await self.stream(f"words:{WORDS}")

    async def fast_socket(self) -> None:
        await self.socket(f"words:{WORDS}")

    async def leaves_a_socket(self) -> None:
        async with self._spoken("delay:20 words:1000") as socket:
            for _ in range(5):
                await socket.receive()

    async def leaves_a_stream(self) -> None:
        async with self._ask("delay:20 words:1000", stream=True) as response:
            await response.content.readany()
            response.close()

    async def leaves_a_wait(self) -> None:
        try:
            async with (
                asyncio.timeout(FIRST_LEAVES_AFTER_S),
                self._ask("fault:slow-headers", stream=False),
            ):
                raise Unexpected("an answer that nobody gave")
        except TimeoutError:
            pass

    async def refused_upstream(self) -> None:
        async with self._ask("fault:500", stream=False) as response:
            if response.status != 502:
                raise Unexpected(response.status, await response.text())

    async def cut_upstream(self) -> None:
        *_, last = [event async for event in self._events("fault:cut")]
        if orjson.loads(last)["error"]["code"] != "upstream_error":
            raise Unexpected(last)

    @asynccontextmanager
    async def _ask(self, text: str, *, stream: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        messages = [{"role": "user", "content": text}]
        body = {"model": "assistant", "stream": stream, "messages": messages}
        async with self.callers.post("/v1/chat/completions", json=body) as response:
            yield response

    @asynccontextmanager
    async def _spoken(self, text: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.callers.ws_connect("/api/streaming/ws/load", max_msg_size=0) as socket:
            await socket.send_json({"message_type": "chat_request", "data": {"message": text}})
            yield socket

    async def _events(self, text: str) -> AsyncIterator[bytes]:
        async with self._ask(text, stream=True) as response:
            if response.status != 200:
                raise Unexpected(response.status, await response.text())
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield line[6:].strip()

    async def _running(self) -> int:
        async with self.callers.get("/v1/health", headers={"Connection": "close"}) as response:
            running: int = (await response.json())["metrics"]["running"]
            return running

    async def _probe(self, answered: list[float]) -> None:
        while True:
            since = perf_counter()
            async with self.callers.get("/healthz") as response:
                if response.status != 200:
                    raise Unexpected(response.status)
            answered.append(perf_counter() - since)
            await asyncio.sleep(0.05)


KINDS: list[tuple[Callable[[Load], Awaitable[None]], int]] = [
    (Load.whole, 40),
    (Load.fast_stream, 30),
    (Load.fast_socket, 10),
    (Load.leaves_a_stream, 3),
    (Load.leaves_a_socket, 2),
    (Load.leaves_a_wait, 5),
    (Load.refused_upstream, 5),
    (Load.cut_upstream, 5),
]


async def _to_the_end(
    socket: aiohttp.ClientWebSocketResponse,
) -> AsyncIterator[aiohttp.WSMessage]:
    async for message in socket:
        yield message
        if '"stream_end"' in message.data:
            return


@asynccontextmanager
async def load(folder: Path) -> AsyncIterator[Load]:
    provider = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.upstream"), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert provider.stdout
        url = (await provider.stdout.readline()).decode().strip().removeprefix("base_url=")
        async with (
            process(
                folder,
                OPENAI_BASE_URL=url,
                OPENAI_API_KEY="sk-load",
                RUNTIME_MODEL_ATTEMPTS="1",
                RUNTIME_LOG_LEVEL="WARNING",
            ) as runtime,
            aiohttp.ClientSession(
                runtime.url,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=0.5),
                timeout=aiohttp.ClientTimeout(total=300),
            ) as callers,
        ):
            yield Load(runtime, int(url.removesuffix("/v1").rpartition(":")[2]), callers)
    finally:
        provider.kill()
        await provider.wait()
        provider._transport.close()  # type: ignore[attr-defined]


async def _main(streams: int, requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with load(Path(folder)) as running:
            await running.requests(CONCURRENCY * 4)
            before = await running.idle()
            answered = await running.streams(streams)
            heard = await running.sockets(streams)
            between = await running.settled(before)
            outcomes = await running.requests(requests)
            after = await running.settled(before)
    lines = [
        *(
            f"{streams} {what} in order; /healthz in {statistics.median(took):.3f} s, "
            f"at most {max(took):.3f} s"
            for what, took in (("streams", answered), ("WebSockets", heard))
        ),
        f"{requests} requests: {dict(outcomes)}",
        *(
            f"{name}: {each}"
            for name, each in (("before", before), ("between", between), ("after", after))
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.load", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    asyncio.run(_main(given.streams, given.requests))
