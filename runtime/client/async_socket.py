from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from runtime.client.calls import Messages, asked
from runtime.client.conversing import Request, Talk, frame
from runtime.client.errors import (
    ClientClosedError,
    ConnectionFailedError,
    RuntimeClientError,
    ServerError,
)
from runtime.client.events import Event, TextDelta
from runtime.client.handshake import HANDSHAKE, MAX_MESSAGE_BYTES, denied, unreachable
from runtime.client.options import CONNECT_S, SILENCE_S, Options
from runtime.client.shapes import Json

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class AsyncSocket:
    """A WebSocket to a runtime, for an `async with`. Several answers may come over it at once.

    A connection that is lost is made again, and answers go on where they were. Frames are read
    by whoever waits for one: an answer that nobody reads keeps no memory full.
    """

    def __init__(self, options: Options, user_id: str, session_id: str | None) -> None:
        self._options = options
        self._url = options.socket_url(user_id, session_id)
        self._talk = Talk(options.api_key)
        self._connection: ClientConnection | None = None
        self._reading = asyncio.Lock()
        self._closed = False

    def chat(
        self,
        messages: Messages,
        *,
        agent_id: str | UUID | None = None,
        provider_id: str | None = None,
        resumable: bool = True,
        **options: Any,  # noqa: ANN401 - as of `stream_chat`
    ) -> AsyncChat:
        """Ask; the request is sent when the answer is first read. `options` are those of
        `stream_chat`."""
        body = asked(messages, agent_id=agent_id, provider_id=provider_id, **options)
        return AsyncChat(self, self._talk.ask(body, resumable=resumable))

    async def feedback(
        self, rating: Literal["up", "down"], run_id: str, comment: str | None = None
    ) -> Json:
        """Say what you think of a run's answer, once it has ended."""
        await self._send(self._talk.rate(rating, run_id, comment))
        while (ack := self._talk.ack()) is None:
            await self._read()
        return ack

    async def ping(self) -> None:
        """Say something, so that the server takes the connection for used."""
        await self._send(frame("ping", {}))

    async def aclose(self) -> None:
        self._closed = True
        if self._connection:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        left = self._options.max_retries
        while True:
            try:
                await self._connect()
                return self
            except (ConnectionFailedError, ServerError):
                wait_s = self._talk.wait_s()
                if not left or wait_s is None:
                    raise
            left -= 1
            await asyncio.sleep(wait_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _next(self, request: Request) -> Event | None:
        while not request.inbox:
            if request.ended:
                self._talk.leave(request)
                return None
            await self._read(request)
        found = request.inbox.popleft()
        if isinstance(found, RuntimeClientError):
            self._talk.leave(request)
            raise found
        return found

    async def _read(self, request: Request | None = None) -> None:
        """One frame, unless somebody else has read one for `request` in the meantime."""
        from websockets.exceptions import ConnectionClosed

        async with self._reading:
            if request and (request.inbox or request.ended):
                return
            connection = self._open()
            try:
                answer = self._talk.hear(await connection.recv())
                if answer:
                    await connection.send(answer)
            except ConnectionClosed as error:
                await self._lost(error.rcvd.code if error.rcvd else None)

    async def _ask(self, request: Request) -> None:
        """What did not arrive is said again with whatever else goes on."""
        await self._send(request.asking(), repeat=False)

    async def _send(self, message: str, *, repeat: bool = True) -> None:
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                await self._open().send(message)
                return
            except ConnectionClosed as error:
                async with self._reading:
                    await self._lost(error.rcvd.code if error.rcvd else None)
                if not repeat:
                    return

    def _open(self) -> ClientConnection:
        if self._closed or self._connection is None:
            raise ClientClosedError
        return self._connection

    async def _lost(self, code: int | None) -> None:
        from websockets.exceptions import ConnectionClosed

        if self._closed:
            raise ClientClosedError
        if self._connection and self._connection.close_code is None:
            return
        going_on = self._talk.lost(code)
        failed: Exception | None = None
        while (wait_s := self._talk.wait_s()) is not None:
            await asyncio.sleep(wait_s)
            try:
                await self._connect()
                for message in going_on:
                    await self._open().send(message)
                return
            except (ConnectionClosed, ConnectionFailedError, ServerError) as error:
                failed = error
        message = f"The connection to {self._options.base_url} was lost."
        raise ConnectionFailedError(message) from failed

    async def _connect(self) -> None:
        try:
            await self._shake_hands()
        except BaseException:
            if self._connection:
                await self._connection.close()
            raise

    async def _shake_hands(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        if self._closed:
            raise ClientClosedError
        try:
            self._connection = await connect(
                self._url,
                additional_headers=self._options.credential,
                proxy=True if self._options.through_proxies else None,
                open_timeout=CONNECT_S,
                max_size=MAX_MESSAGE_BYTES,
                ping_timeout=SILENCE_S,
            )
            async with asyncio.timeout(HANDSHAKE):
                while self._talk.told is None:
                    if answer := self._talk.hear(await self._connection.recv()):
                        await self._connection.send(answer)
        except InvalidStatus as error:
            raise denied(error.response) from error
        except (OSError, TimeoutError, WebSocketException) as error:
            raise unreachable(self._options, error) from error


class AsyncChat:
    """One answer over a socket, as it comes."""

    def __init__(self, socket: AsyncSocket, request: Request) -> None:
        self._socket = socket
        self._request = request

    @property
    def request_id(self) -> str:
        return self._request.id

    @property
    def run_id(self) -> str | None:
        """Known from its first event on."""
        return self._request.run_id

    @property
    def status(self) -> str | None:
        """`completed`, `cancelled` or `failed`, once it has ended."""
        return self._request.status

    async def cancel(self) -> None:
        """Stop the run. What was said until then still comes."""
        if self._request.asked and not self._request.ended:
            await self._socket._send(self._request.cancelling())

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._request.asked:
            await self._socket._ask(self._request)
        event = await self._socket._next(self._request)
        if event is None:
            raise StopAsyncIteration
        return event

    def texts(self) -> AsyncIterator[str]:
        return (event.text async for event in self if isinstance(event, TextDelta))

    async def text(self) -> str:
        return "".join([piece async for piece in self.texts()])
