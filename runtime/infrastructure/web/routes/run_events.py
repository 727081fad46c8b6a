"""The log of a durable run: as a stream that goes on where its reader left, or page by page."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from fastapi import Response as HttpResponse

from runtime.application.queries.runs import RunQueries
from runtime.application.services.durable.logs import Reader
from runtime.domain.errors import DomainError, InvalidValue
from runtime.domain.events.runs import RunEvent
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.event_json import event_to_json
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.json_response import JsonResponse
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.runs_wire import EventPageOut
from runtime.infrastructure.web.sse import EventStream

logger = logging.getLogger(__name__)
router = APIRouter(
    prefix="/v1/runs", tags=["Runs"], responses=PLATFORM_ERRORS, route_class=StrictRoute
)
MOST_SEQ = 2**53
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All of the log as it is written, every event with its number as `id` and "
        "its type as `event`; or with `Accept: application/json` a page of it.",
        "model": EventPageOut,
        "content": {
            "text/event-stream": {
                "example": 'id: 2\nevent: text.delta\ndata: {"seq":2,"type":"text.delta",'
                '"text":"Hello"}\n\n',
            }
        },
    },
    **errors_of(409),
    204: {"description": "Asked for a stream behind the last event of a run that has ended."},
}


@router.get("/{id}/events", response_model=None, responses=STREAMED)
async def read_events(
    id: str,
    request: Request,
    caller: Caller,
    queries: Annotated[RunQueries, provided(lambda c: c.run_queries())],
    after: Annotated[
        int | None, Query(ge=0, le=MOST_SEQ, description="The last event that you have.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Of a page.")] = 200,
    last_event_id: Annotated[
        str | None,
        Header(max_length=32, description="The same, as browsers send it when they reconnect."),
    ] = None,
) -> HttpResponse:
    """What happened in a durable run, from any event on. As a stream it ends with the run; ask
    again behind the last `id` that you have, at any replica, and nothing is missing or twice. 204
    says that there is nothing more, which keeps an `EventSource` from asking for ever."""
    start = after if after is not None else _number(last_event_id)
    if "application/json" in request.headers.get("accept", ""):
        page = await queries.events(caller, RunId(id), after=start, limit=limit)
        data = [_shown(seq, event) for seq, event in page.events]
        return JsonResponse({"object": "list", "data": data, "has_more": page.has_more})
    reader = await queries.read(caller, RunId(id), after=start)
    if reader is None:
        return HttpResponse(status_code=204)
    return EventStream(_frames(id, reader), reader.leave)


async def _frames(id: str, reader: Reader) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(reader.batches()) as batches:
            async for events in batches:
                first = reader.read - len(events) + 1
                yield b"".join(_frame(seq, event) for seq, event in enumerate(events, first))
    # The headers are out: whatever goes wrong has to be said in the stream.
    except Exception as error:
        if not isinstance(error, DomainError):
            logger.exception("the stream of run %s broke", id)
        refusal = understand(error)
        body = {"error": {"code": refusal.code, "message": refusal.message}}
        yield b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


def _frame(seq: int, event: RunEvent) -> bytes:
    data = orjson.dumps(_shown(seq, event), default=dict)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, event.type.encode(), data)


def _shown(seq: int, event: RunEvent) -> dict[str, Any]:
    return {"seq": seq, **event_to_json(event)}


def _number(last_event_id: str | None) -> int:
    """Raises InvalidValue."""
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit()) or len(last_event_id) > 15:
        raise InvalidValue("It is the number of an event.", param="Last-Event-ID")
    return int(last_event_id)
