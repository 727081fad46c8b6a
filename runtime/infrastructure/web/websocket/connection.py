"""One client's connection: what it says, and what becomes of it."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from fastapi.exceptions import RequestValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from runtime.application.commands.feedback import GiveFeedback
from runtime.application.commands.runs import SessionRef
from runtime.domain.errors import DomainError, InvalidFrame, RunNotFound, Unauthenticated
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import RunId, UserId, uuid7_hex
from runtime.infrastructure.web.websocket.answers import Answers
from runtime.infrastructure.web.websocket.frames import error_frame, frame
from runtime.infrastructure.web.websocket.services import Services
from runtime.infrastructure.web.websocket.wire import (
    MAX_ID,
    AuthIn,
    CancelIn,
    ChatRequestIn,
    FeedbackIn,
    FrameIn,
    ResumeIn,
    read,
)

MOST_MALFORMED = 5
"""One after the other."""
TEXTS = "runtime.texts"
"""As in `protocol.py`, which is not imported here: another server may serve the app."""


class Connection:
    """Reads messages until the client is gone."""

    def __init__(
        self,
        websocket: WebSocket,
        services: Services,
        known: Principal,
        user: UserId,
        credentials: frozenset[str],
        *,
        from_here: bool,
        session: SessionRef | None,
    ) -> None:
        """`user`: in whose name an admin acts; for anybody else it is a label."""
        self._websocket = websocket
        self._services = services
        self._user = user
        self._caller = known.acting_for(user)
        self._whose = (self._caller.project_id, self._caller.user_id)
        self._credentials = credentials
        self._from_here = from_here
        self._session = session
        self._idle_s = services.idle_s
        self._connections = services.connections
        self._answers = Answers(services, self.send, self._on_idle)
        self._in_one_write = TEXTS in websocket.scope.get("extensions", {})
        self._malformed = 0
        self._over = False
        self._beside: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        hello = {
            "connection_id": f"conn_{uuid7_hex()}",
            "user_id": self._caller.user_id,
            "session_id": self._session.name if self._session else None,
        }
        try:
            await self.send([frame("connected", hello)])
            while True:
                message = await self._next()
                # The end waits for a client that does not read; what it says meanwhile is too late.
                if not self._over:
                    await self._hear(message)
        except WebSocketDisconnect:
            pass
        finally:
            await self._answers.leave()
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def send(self, messages: Sequence[bytes]) -> None:
        """Waits for a client that does not read. Raises WebSocketDisconnect."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(1006)
        if self._in_one_write:
            await self._websocket.send({"type": "websocket.send", "texts": messages})
            return
        for message in messages:
            await self._websocket.send({"type": "websocket.send", "text": message.decode()})

    async def end(self, code: int, error: Exception | None = None, reason: str = "") -> None:
        """The client hears why, and is not heard any more."""
        self._over = True
        with suppress(WebSocketDisconnect):
            if error:
                await self.send([error_frame(error)])
            if self._websocket.application_state is WebSocketState.CONNECTED:
                await self._websocket.close(code, reason or (str(error)[:100] if error else ""))

    @property
    def caller(self) -> Principal:
        return self._caller

    # What those who keep the connections ask for

    @property
    def requests(self) -> int:
        return len(self._answers)

    async def recheck(self) -> None:
        await self._services.authenticator.authenticate(
            self._credentials, from_here=self._from_here
        )

    def revoked(self, error: Unauthenticated) -> None:
        self._answers.cancel_all()
        if not self._over:
            self._do(self.end(1008, error))

    def drain(self) -> None:
        if self._answers.idle:
            self._do(self.end(1012, reason="The runtime is shutting down."))

    def _on_idle(self) -> None:
        if self._connections.draining:
            self.drain()

    # Messages

    async def _next(self) -> str | bytes:
        """Raises WebSocketDisconnect."""
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                if self._answers.idle:
                    await self.end(1000, reason="Nothing was said for too long.")
                continue
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            text: str | None = message.get("text")
            data: str | bytes = message["bytes"] if text is None else text
            return data

    async def _hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self.end(1003, InvalidFrame("Messages are text, with JSON in it; not binary."))
            return
        request_id = None
        try:
            said = FrameIn.read(message)
            named = said.data.get("request_id")
            request_id = named if isinstance(named, str) and len(named) <= MAX_ID else None
            await self._heed(said)
            self._malformed = 0
        except InvalidFrame as error:
            self._malformed += 1
            if self._malformed >= MOST_MALFORMED:
                await self.end(1008, error)
            else:
                await self.send([error_frame(error)])
        except (DomainError, RequestValidationError) as error:
            await self.send([error_frame(error, request_id)])

    async def _heed(self, said: FrameIn) -> None:
        match said.message_type:
            case "chat_request":
                asked = read(ChatRequestIn, said.data)
                command = asked.asking(self._caller, self._session)
                request_id = asked.request_id or f"req_{uuid7_hex()}"
                self._answers.ask(self._caller, request_id, command, resumable=asked.resumable)
            case "cancel":
                self._answers.cancel(read(CancelIn, said.data).request_id)
            case "resume":
                again = read(ResumeIn, said.data)
                self._answers.resume(self._caller, again.request_id, again.last_event)
            case "feedback":
                self._do(self._take(read(FeedbackIn, said.data)))
            case "ping":
                await self.send([frame("pong", said.data)])
            case "auth":
                await self._renew(read(AuthIn, said.data).token)
            case _:
                raise InvalidFrame(
                    "'message_type' is chat_request, cancel, resume, feedback, ping or auth.",
                    param="message_type",
                )

    async def _renew(self, token: str) -> None:
        """Another credential of the same caller, before the first one expires."""
        credentials = frozenset({token})
        try:
            known = await self._services.authenticator.authenticate(
                credentials, from_here=self._from_here
            )
            caller = known.acting_for(self._user)
            if (caller.project_id, caller.user_id) != self._whose:
                raise Unauthenticated("This is another caller's token; open another connection.")
        except Unauthenticated as error:
            self._answers.cancel_all()
            await self.end(1008, error)
            return
        self._caller, self._credentials = caller, credentials
        await self.send([frame("authenticated", {"user_id": caller.user_id})])

    async def _take(self, given: FeedbackIn) -> None:
        """In a task of its own: the database may be slow, and the client has to be heard."""
        try:
            run_id = given.run_id or self._answers.run_of(given.asked())
            feedback = await self._services.give_feedback(
                GiveFeedback(
                    caller=self._caller,
                    run_id=RunId(run_id),
                    rating=given.opinion(),
                    comment=given.comment,
                )
            )
            told = {"run_id": feedback.run_id, "rating": feedback.rating}
            named = {"request_id": given.request_id} if given.request_id else {}
            await self.send([frame("feedback_ack", {**told, **named})])
        except DomainError as error:
            if isinstance(error, RunNotFound):
                error.param = "run_id"
            await self.send([error_frame(error, given.request_id)])

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(_unless_gone(work))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


async def _unless_gone(work: Coroutine[None, None, None]) -> None:
    with suppress(WebSocketDisconnect):
        await work
