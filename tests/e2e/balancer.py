"""What stands before replicas: connections go round, to whoever says that it is ready."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import httpx

LOOKS_EVERY_S = 0.1


class Balancer:
    """Looks at `/readyz`, and tries another one when a connection is refused, as proxies do."""

    def __init__(self, replicas: Callable[[], Sequence[str]]) -> None:
        self._replicas = replicas
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready: list[str] = []
        self.url = ""

    async def look(self) -> None:
        async with httpx.AsyncClient(timeout=1) as client:
            while True:
                there = self._replicas()
                found = [each for each in there if await self._is_ready(client, each)]
                self.ready = found
                await asyncio.sleep(LOOKS_EVERY_S)

    async def until_ready(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.ready) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, to_them = await self._connected()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, to_them), _pass_on(theirs, writer))

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(len(self.ready)):
            self._turn += 1
            url = httpx.URL(self.ready[self._turn % len(self.ready)])
            with suppress(ConnectionError):
                return await asyncio.open_connection(url.host, url.port)
        raise ConnectionError("nobody is ready")

    async def _is_ready(self, client: httpx.AsyncClient, url: str) -> bool:
        try:
            return (await client.get(f"{url}/readyz")).is_success
        except httpx.TimeoutException:
            return url in self.ready  # Slow is not away.
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def balancing(replicas: Callable[[], Sequence[str]]) -> AsyncIterator[Balancer]:
    """In front of whoever is there now; somebody is ready."""
    balancer = Balancer(replicas)
    server = await asyncio.start_server(balancer.accept, "127.0.0.1", 0)
    balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    looking = asyncio.create_task(balancer.look())
    try:
        await balancer.until_ready(1)
        yield balancer
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        server.close()
        await balancer.close()
