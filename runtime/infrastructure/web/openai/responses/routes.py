"""OpenAI `/v1/responses`: the `model` is an agent."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi import Response as HttpResponse

from runtime.application.commands.responses import CancelResponse, CreateResponse, DeleteResponse
from runtime.application.handlers.responses import (
    Begun,
    CancelResponseHandler,
    CreateResponseHandler,
    DeleteResponseHandler,
)
from runtime.application.queries.responses import ResponseQueries
from runtime.application.services.durable.logs import Reader
from runtime.application.services.execution import Execution
from runtime.domain.entities.responses import Response, ResponseStatus, open_items
from runtime.domain.errors import (
    ConversationNotFound,
    DomainError,
    Draining,
    FixedParameter,
    InvalidJsonSchema,
    UnsupportedParameter,
)
from runtime.domain.events.runs import TERMINAL, RunCancelled, RunFailed
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ResponseId
from runtime.domain.value_objects.items import items_of
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.disconnect import unless_disconnected
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.json_response import JsonResponse
from runtime.infrastructure.web.openai.items import wire_of
from runtime.infrastructure.web.openai.responses.examples import (
    COUNTED,
    CREATED,
    DELETED,
    INPUT_ITEMS,
    RETRIEVED,
)
from runtime.infrastructure.web.openai.responses.frames import ResponseFrames
from runtime.infrastructure.web.openai.responses.out import response_out
from runtime.infrastructure.web.openai.responses.wire import (
    CountTokensRequest,
    CreateResponseRequest,
    Include,
)
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.sse import EventStream

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/responses", tags=["OpenAI"], route_class=StrictRoute)

HEADERS_WITHIN_S = 15.0
"""A stream that says nothing for this long gets its headers all the same: proxies give up soon."""
Included = Annotated[
    list[Include],
    Query(alias="include", description="Taken as when it was made; adds nothing."),
]
Included_ = Annotated[list[Include], Query(alias="include[]", include_in_schema=False)]
"""As the Python SDK writes it."""
Queries = Annotated[ResponseQueries, provided(lambda c: c.response_queries())]
OUR_WORDS = {
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "id": "conversation",
}
"""For what chat completions call otherwise."""
_NAMING = (UnsupportedParameter, FixedParameter, InvalidJsonSchema, ConversationNotFound)


@router.post("", response_model=None, responses=CREATED)
async def create_response(
    body: CreateResponseRequest,
    request: Request,
    caller: Caller,
    create: Annotated[CreateResponseHandler, provided(lambda c: c.create_response())],
    queries: Queries,
) -> HttpResponse:
    """Ask an agent. With `stream`, the answer comes as server-sent events; with `background`, the
    run goes on without you and can be read, streamed and cancelled by its id."""
    body.check_supported()
    command = body.command(caller)
    # Its first events name what goes on without the client.
    request.state.goes_on = command.background
    if command.background or command.stream:
        begun = await unless_disconnected(request, _begin(request, create, command))
        if begun.execution:
            return EventStream(_frames(begun, begun.execution), begun.execution.cancel)
        if command.stream:
            return _resumed(queries, caller, begun.response, queries.follow(begun.response))
        return JsonResponse(response_out(begun.response))
    ended = await unless_disconnected(request, _whole(request, create, command))
    return JsonResponse(response_out(ended))


@router.get("/{id}", response_model=None, responses=RETRIEVED)
async def get_response(
    id: str,
    caller: Caller,
    queries: Queries,
    include: Included = [],  # noqa: B006 - FastAPI copies it
    include_: Included_ = [],  # noqa: B006
    stream: bool = False,
    starting_after: Annotated[
        int | None, Query(ge=0, description="With `stream`: the last event that you have.")
    ] = None,
    include_obfuscation: Annotated[bool, Query(description="Nothing is obfuscated.")] = False,
) -> HttpResponse:
    """A stored response. One in the background can be streamed, while it goes on and afterwards,
    from any event on."""
    if not stream:
        return JsonResponse(response_out(await queries.get(caller, ResponseId(id))))
    response, reader = await queries.read(caller, ResponseId(id))
    after = -1 if starting_after is None else starting_after
    return _resumed(queries, caller, response, reader, after)


@router.delete("/{id}", response_model=None, responses=DELETED)
async def delete_response(
    id: str,
    caller: Caller,
    delete: Annotated[DeleteResponseHandler, provided(lambda c: c.delete_response())],
) -> HttpResponse:
    await delete(DeleteResponse(caller, ResponseId(id)))
    return JsonResponse({"id": id, "object": "response", "deleted": True})


@router.post("/{id}/cancel", response_model=None, responses=RETRIEVED)
async def cancel_response(
    id: str,
    caller: Caller,
    cancel: Annotated[CancelResponseHandler, provided(lambda c: c.cancel_response())],
) -> HttpResponse:
    """End a background response, at whatever replica it runs. One that has ended stays so."""
    return JsonResponse(response_out(await cancel(CancelResponse(caller, ResponseId(id)))))


@router.get("/{id}/input_items", response_model=None, responses=INPUT_ITEMS)
async def list_input_items(
    id: str,
    caller: Caller,
    queries: Queries,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=256, description="An item's id.")] = None,
    include: Included = [],  # noqa: B006
    include_: Included_ = [],  # noqa: B006
) -> HttpResponse:
    """What this response was given; not what those had that it follows on."""
    page = await queries.input_items(
        caller, ResponseId(id), limit=limit, newest_first=order == "desc", after=after
    )
    return JsonResponse(
        {
            "object": "list",
            "data": [wire_of(item) for item in page.items],
            "first_id": page.items[0].id if page.items else "",
            "last_id": page.items[-1].id if page.items else "",
            "has_more": page.has_more,
        }
    )


@router.post("/input_tokens", response_model=None, responses=COUNTED)
async def count_input_tokens(
    body: CountTokensRequest, caller: Caller, queries: Queries
) -> HttpResponse:
    """About how many tokens go in: four characters each, and nothing of what the agent itself
    adds. Nothing is run."""
    body.check_supported()
    count = await queries.input_tokens(caller, body.asked(), body.tool_specs())
    return JsonResponse({"object": "response.input_tokens", "input_tokens": count})


async def _begin(request: Request, create: CreateResponseHandler, command: CreateResponse) -> Begun:
    """One that has a caller who waits has its first output, so that a refusal still gets its HTTP
    status."""
    with _our_words():
        begun = await create(command)
    request.state.run_id = begun.response.run_id
    if begun.execution:
        try:
            await begun.execution.ready(HEADERS_WITHIN_S)
        except BaseException:
            await begun.execution.aclose()
            raise
    return begun


async def _whole(
    request: Request, create: CreateResponseHandler, command: CreateResponse
) -> Response:
    with _our_words():
        begun = await create(command)
    execution = begun.execution
    assert execution
    request.state.run_id = execution.id
    try:
        (answer,) = await execution.answers()
    finally:
        await execution.aclose()
    end = answer.events[-1]
    assert isinstance(end, TERMINAL)
    output = items_of(execution.id, answer.events, open_items(end))
    return begun.ended(end, output)


async def _frames(begun: Begun, execution: Execution) -> AsyncGenerator[bytes]:
    """Of a run whose caller waits."""
    frames = ResponseFrames(begun.response)
    try:
        yield frames.begin()
        async for _, events in execution.batches():
            encoded = b"".join(map(frames.add, events))
            if isinstance(end := events[-1], TERMINAL):
                end = RunFailed(Draining()) if isinstance(end, RunCancelled) else end
                encoded += frames.close(open_items(end))
                encoded += frames.end(begun.ended(end, frames.output.items))
            if encoded:
                yield encoded
    # The headers are out: whatever goes wrong has to be said in the stream.
    except Exception as error:
        logger.exception("the stream of response %s broke", begun.response.id)
        yield frames.broken(understand(error))
    finally:
        await execution.aclose()


def _resumed(
    queries: ResponseQueries,
    caller: Principal,
    response: Response,
    reader: Reader,
    after: int = -1,
) -> EventStream:
    final = partial(queries.get, caller, response.id)
    return EventStream(_followed(response, reader, final, after), reader.leave)


async def _followed(
    response: Response, reader: Reader, final: Callable[[], Awaitable[Response]], after: int
) -> AsyncGenerator[bytes]:
    """Of a run in the background, wherever it runs."""
    frames = ResponseFrames(_at_its_beginning(response), after)
    try:
        if begun := frames.begin():
            yield begun
        async with aclosing(reader.batches()) as batches:
            async for events in batches:
                encoded = b"".join(map(frames.add, events))
                if isinstance(end := events[-1], TERMINAL):
                    encoded += frames.close(open_items(end)) + frames.end(await final())
                if encoded:
                    yield encoded
    except Exception as error:
        if not isinstance(error, DomainError):
            logger.exception("the stream of response %s broke", response.id)
        yield frames.broken(understand(error))


def _at_its_beginning(response: Response) -> Response:
    return replace(
        response,
        status=ResponseStatus.IN_PROGRESS,
        completed_at=None,
        output=(),
        usage=None,
        failure=None,
        incomplete_reason=None,
    )


@contextmanager
def _our_words() -> Iterator[None]:
    """A refusal names the parameter as this door does."""
    try:
        yield
    except _NAMING as error:
        if ours := OUR_WORDS.get(error.param or ""):
            error.args = (str(error).replace(f"'{error.param}'", f"'{ours}'"),)
            error.param = ours
        raise
