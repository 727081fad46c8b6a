"""Somebody else's server that takes webhooks, and answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[], Awaitable[web.Response]]


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    url: str
    received: list[Received] = field(default_factory=list)
    script: list[Answer] = field(default_factory=list)
    """One for each of the next messages; then it answers 204."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def answers(self, *answers: int | web.Response) -> None:
        self.script += [_giving(each) for each in answers]

    async def until(self, count: int) -> list[Received]:
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(headers, await request.read()))
        async with self._news:
            self._news.notify_all()
        return await (self.script.pop(0) if self.script else _giving(204))()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver("")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def never() -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


def _giving(answer: int | web.Response) -> Answer:
    async def give() -> web.Response:
        return web.Response(status=answer) if isinstance(answer, int) else answer

    return give
