"""`/api/streaming/ws/{user_id}?session_id=`: from the handshake to a connection that is known."""

import asyncio
import logging

from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from runtime.application.commands.runs import SessionRef
from runtime.application.services.connections import Connections
from runtime.domain.errors import DomainError, Draining, InvalidValue, Unauthenticated, Unavailable
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import UserId
from runtime.infrastructure.web import errors
from runtime.infrastructure.web.auth import carried, is_from_here
from runtime.infrastructure.web.dependencies import websocket_services
from runtime.infrastructure.web.openai.sessions import checked_name
from runtime.infrastructure.web.websocket.connection import Connection
from runtime.infrastructure.web.websocket.frames import error_frame, frame
from runtime.infrastructure.web.websocket.services import Services
from runtime.infrastructure.web.websocket.wire import AuthIn, FrameIn, read

logger = logging.getLogger(__name__)

AUTH_WITHIN_S = 10.0
MAX_NAME = 256


async def door(websocket: WebSocket) -> None:
    services = websocket_services(websocket)
    try:
        user, session = _user(websocket), _session(websocket)
        caller, credentials = await _identified(websocket, services)
    # Refused before the handshake is answered: with a status, as any request.
    except Exception as error:
        if not isinstance(error, DomainError):
            logger.exception("the WebSocket could not be opened")
        await websocket.send_denial_response(errors.response(error, websocket.scope["path"]))
        return
    await websocket.accept()
    try:
        if caller is None:
            caller, credentials = await _told(websocket, services)
        connection = Connection(
            websocket,
            services,
            caller,
            user,
            credentials,
            from_here=is_from_here(websocket.scope),
            session=session,
        )
        await _serve(services.connections, connection)
    except WebSocketDisconnect:
        return
    except (DomainError, RequestValidationError) as error:
        await _turn_away(websocket, error)


ROUTE = WebSocketRoute("/api/streaming/ws/{user_id}", door)


async def _serve(connections: Connections, connection: Connection) -> None:
    caller = connection.caller
    connections.enter(connection, caller)
    try:
        await connection.serve()
    finally:
        connections.leave(connection, caller)


def _user(connection: HTTPConnection) -> UserId:
    name: str = connection.path_params["user_id"]
    if not 1 <= len(name) <= MAX_NAME or "\x00" in name:
        raise InvalidValue(f"It is 1-{MAX_NAME} characters.", param="user_id")
    return UserId(name)


def _session(connection: HTTPConnection) -> SessionRef | None:
    named = connection.query_params.getlist("session_id")
    if not named or named == [""]:
        return None
    if len(named) > 1:
        raise InvalidValue("Name one session.", param="session_id")
    return SessionRef(name=checked_name(named[0], "session_id"))


async def _identified(
    websocket: WebSocket, services: Services
) -> tuple[Principal | None, frozenset[str]]:
    """By the headers; None: the first message has to say it, as browsers can't set headers."""
    if services.connections.draining:
        raise Draining
    credentials = frozenset(carried(websocket))
    try:
        from_here = is_from_here(websocket.scope)
        authenticator = services.authenticator
        return await authenticator.authenticate(credentials, from_here=from_here), credentials
    except Unauthenticated:
        if credentials:
            raise
        return None, credentials


async def _told(websocket: WebSocket, services: Services) -> tuple[Principal, frozenset[str]]:
    """Raises Unauthenticated, InvalidFrame, RequestValidationError, WebSocketDisconnect."""
    told = frame("auth_required", {"within_s": AUTH_WITHIN_S})
    await websocket.send_text(told.decode())
    try:
        async with asyncio.timeout(AUTH_WITHIN_S):
            message = await websocket.receive()
    except TimeoutError:
        raise Unauthenticated(f"No 'auth' message came within {AUTH_WITHIN_S:g} s.") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    said = FrameIn.read(message.get("text") or "")
    if said.message_type != "auth":
        raise Unauthenticated(
            "The first message has to be {'message_type': 'auth', 'data': {'token': …}}, or the "
            "handshake needs an 'Authorization' header."
        )
    credentials = frozenset({read(AuthIn, said.data).token})
    from_here = is_from_here(websocket.scope)
    return await services.authenticator.authenticate(credentials, from_here=from_here), credentials


async def _turn_away(websocket: WebSocket, error: Exception) -> None:
    try:
        await websocket.send_text(error_frame(error).decode())
        # 1013: try again later; the credential is not to blame.
        code = 1013 if isinstance(error, Unavailable) else 1008
        await websocket.close(code, errors.understand(error).message[:100])
    except WebSocketDisconnect:
        return
