"""The least a Python server can do: take the bytes of the request, and pass on those of the answer.

`uvicorn --factory tests.benchmarks.forwarder:main`, with the provider in OPENAI_BASE_URL.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


def main() -> Starlette:
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    async def forward(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        headers = {"Content-Type": "application/json"}
        response = await session.post(url, data=await request.body(), headers=headers)
        if response.content_type == "text/event-stream":
            return StreamingResponse(
                _body(response), response.status, media_type=response.content_type
            )
        return Response(await response.read(), response.status, media_type=response.content_type)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", forward, methods=["POST"]),
            Route("/healthz", _healthy),
        ],
        lifespan=lifespan,
    )


async def _body(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        async for data in response.content.iter_any():
            yield data


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")
