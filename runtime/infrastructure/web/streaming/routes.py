"""`POST /api/streaming/chat` and `/compare`: an agent, or models without one, in any format."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response

from runtime.application.commands.runs import SessionRef
from runtime.application.commands.streaming import StreamChat
from runtime.application.handlers.streaming import StreamChatHandler
from runtime.application.services.generation.generation import Generation, SourceAnswer
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.disconnect import unless_disconnected
from runtime.infrastructure.web.gateway.envelope import request_id
from runtime.infrastructure.web.json_response import JsonResponse
from runtime.infrastructure.web.openai.sessions import session_headers, session_of
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.streaming.encoders import Encoder
from runtime.infrastructure.web.streaming.examples import CHAT_RESPONSES, COMPARE_RESPONSES
from runtime.infrastructure.web.streaming.formats import format_of, streamed
from runtime.infrastructure.web.streaming.wire import (
    CompareRequest,
    StreamingChatRequest,
    answer_object,
    envelope,
    whole,
)

router = APIRouter(prefix="/api/streaming", tags=["Streaming"], route_class=StrictRoute)

Handle = Annotated[StreamChatHandler, provided(lambda c: c.stream_chat())]


@router.post("/chat", response_model=None, responses=CHAT_RESPONSES)
async def stream_chat(
    body: StreamingChatRequest, request: Request, caller: Caller, handle: Handle
) -> Response:
    """Ask an agent or models, and have the answer in the format of your client."""
    format = format_of(body.stream_format)
    command = _command(body, caller, request, format)
    if body.stream:
        generation = await unless_disconnected(request, _opened(request, handle, command))
        return streamed(generation, format, _session(command.session, generation))
    generation, answers = await unless_disconnected(request, _answered(request, handle, command))
    headers = _session(command.session, generation)
    return JsonResponse(envelope(request_id(), whole(generation, answers)), headers=headers)


@router.post("/compare", response_model=None, responses=COMPARE_RESPONSES)
async def compare(
    body: CompareRequest, request: Request, caller: Caller, handle: Handle
) -> Response:
    """Ask several models the same, at once, and see their answers side by side.

    One that fails is told as such. Where all fail, so does the request.
    """
    body.check_options()
    command = StreamChat(
        caller=caller,
        messages=body.asked(),
        models=body.providers,
        options=body.options(),
        mode="interleaved",
        metadata=body.metadata or {},
    )
    _, answers = await unless_disconnected(request, _answered(request, handle, command))
    results = {"results": [answer_object(each) for each in answers]}
    return JsonResponse(envelope(request_id(), results))


def _command(
    body: StreamingChatRequest, caller: Principal, request: Request, format: type[Encoder]
) -> StreamChat:
    session = session_of(request, body.metadata or {}, body.sessions())
    apart = format.tells_apart or not body.stream
    return body.command(caller, session, stream=body.stream, tells_apart=apart)


async def _opened(request: Request, handle: StreamChatHandler, command: StreamChat) -> Generation:
    """With its first output there, so that a refusal still gets its HTTP status."""
    generation = await handle(command)
    request.state.run_id = generation.id
    try:
        await generation.ready()
    except BaseException:
        await generation.aclose()
        raise
    return generation


async def _answered(
    request: Request, handle: StreamChatHandler, command: StreamChat
) -> tuple[Generation, Sequence[SourceAnswer]]:
    generation = await handle(command)
    request.state.run_id = generation.id
    try:
        return generation, await generation.answers()
    finally:
        await generation.aclose()


def _session(ref: SessionRef | None, generation: Generation) -> dict[str, str]:
    return session_headers(ref, generation.sources[0].execution)
