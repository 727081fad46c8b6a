"""Both Python clients behind one face, so that each test is one for both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from runtime.client import AgentRuntimeClient, AsyncAgentRuntimeClient, Event

Kind = Literal["sync", "async"]
KINDS: tuple[Kind, ...] = ("sync", "async")


class Either:
    def __init__(self, client: AgentRuntimeClient | AsyncAgentRuntimeClient) -> None:
        self.client = client

    async def call(self, name: str, /, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        """A method that answers in one piece, or makes a stream."""
        method = getattr(self.client, name)
        if isinstance(self.client, AgentRuntimeClient):
            return await asyncio.to_thread(method, *args, **named)
        return await method(*args, **named)

    async def read(self, name: str, /, *args: Any, **named: Any) -> list[Event]:  # noqa: ANN401
        """A stream, to its end."""
        stream = getattr(self.client, name)(*args, **named)
        if isinstance(self.client, AgentRuntimeClient):
            return await asyncio.to_thread(list, stream)
        return [event async for event in stream]

    async def close(self) -> None:
        if isinstance(self.client, AgentRuntimeClient):
            self.client.close()
        else:
            await self.client.aclose()


@asynccontextmanager
async def either(kind: Kind, url: str, **options: Any) -> AsyncIterator[Either]:  # noqa: ANN401
    made = AgentRuntimeClient if kind == "sync" else AsyncAgentRuntimeClient
    client = Either(made(url, **options))
    try:
        yield client
    finally:
        await client.close()
