"""A real server on a free port, with real clients: in-process transports buffer streams."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from dependency_injector import providers
from fastapi import FastAPI
from openai import AsyncOpenAI

from runtime.infrastructure.container import Container
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.tools.registry import Tool
from runtime.infrastructure.tools.service import BuiltinTools
from runtime.infrastructure.web.server import DrainingServer
from tests.e2e.conforms import Conforming

Json = dict[str, Any]


@dataclass
class Served:
    url: str
    container: Container
    http: httpx.AsyncClient
    openai: AsyncOpenAI
    app: FastAPI

    async def post(self, path: str, body: Json | None = None, *, status: int = 200) -> Json:
        return self._read(await self.http.post(path, json=body), status)

    async def get(self, path: str, *, status: int = 200) -> Json:
        return self._read(await self.http.get(path), status)

    async def create(self, **body: Any) -> Json:  # noqa: ANN401 - a JSON body
        return await self.post("/v1/agents", body, status=201)

    async def publish(self, **body: Any) -> Json:  # noqa: ANN401 - a JSON body
        return await self.create(status="published", **body)

    async def ask(self, model: str, text: str = "Hello", **options: Any) -> str:  # noqa: ANN401
        answer = await self.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], **options
        )
        return answer.choices[0].message.content or ""

    async def until(self, condition: Callable[[Json], bool], path: str) -> Json:
        """The first answer that fits; waits for something that happens beside the test."""
        for _ in range(400):
            if condition(found := await self.get(path)):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path} did not come to what was waited for")

    @staticmethod
    def _read(response: httpx.Response, status: int) -> Json:
        assert response.status_code == status, response.text
        body: Json = response.json()
        return body


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    token: str | None = None,
    tools: Iterable[Tool] = (),
    **settings: Any,  # noqa: ANN401 - as in Settings
) -> AsyncIterator[Served]:
    if token:
        settings["token"] = token
    settings.setdefault("grace_s", 1)
    container = Container(settings=Settings(data_dir=folder / "var", **settings))
    container.tools.override(providers.Object(BuiltinTools(tools)))
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = DrainingServer(container, lambda: None)
    app = server.config.app
    assert isinstance(app, FastAPI)
    conforming = server.config.app = Conforming(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if task.done():
                raise AssertionError("the server did not start; see its log")
        headers = {"X-Runtime-Token": token} if token else {}
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http,
            AsyncOpenAI(base_url=f"{url}/v1", api_key=token or "local", max_retries=0) as openai,
        ):
            yield Served(url, container, http, openai, app)
    finally:
        server.should_exit = True
        await task
    assert not conforming.problems, "\n".join(conforming.problems)
