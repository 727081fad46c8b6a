from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic.json_schema import SkipJsonSchema

from runtime.application.commands.schedules import (
    ChangeSchedule,
    CreateSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    RunScheduleNow,
)
from runtime.application.handlers.schedules import (
    ChangeScheduleHandler,
    CreateScheduleHandler,
    PauseScheduleHandler,
    RemoveScheduleHandler,
    ResumeScheduleHandler,
    RunScheduleNowHandler,
)
from runtime.application.queries.schedules import ScheduleQueries
from runtime.domain.entities.schedules import Schedule
from runtime.domain.repositories.schedules import ScheduleFilter
from runtime.domain.value_objects.ids import ScheduleId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.schedules_wire import (
    Deleted,
    ScheduleCreate,
    ScheduleList,
    ScheduleOut,
    SchedulePatch,
    ScheduleView,
    TickList,
    TickOut,
)

router = APIRouter(
    prefix="/v1/schedules", tags=["Schedules"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
Queries = Annotated[ScheduleQueries, provided(lambda c: c.schedule_queries())]
Id = Annotated[str, Path(max_length=256)]
IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(alias="If-Match", description="The ETag of the state you read; a newer one → 412."),
]
CHANGE: dict[int | str, dict[str, Any]] = errors_of(409, 412, 413)


@router.post("", status_code=201, responses=errors_of(409, 413))
async def create_schedule(
    body: ScheduleCreate,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[CreateScheduleHandler, provided(lambda c: c.create_schedule())],
) -> ScheduleView:
    """Have an agent run at set times, in your name: by a cron expression or at an interval."""
    schedule = await handle(
        CreateSchedule(
            actor=caller,
            timing=body.timing(),
            order=body.order(),
            fields=body.fields(),
            enabled=body.enabled is not False,
        )
    )
    response.headers["Location"] = f"/v1/schedules/{schedule.id}"
    return await _shown(schedule, queries, response)


@router.get("")
async def list_schedules(
    caller: Caller,
    queries: Queries,
    model: Annotated[
        str | None, Query(max_length=200, description="The agent, as the schedules name it.")
    ] = None,
    enabled: Annotated[bool | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> ScheduleList:
    """Your schedules, newest first; an admin sees those of the project."""
    page = await queries.page(caller, ScheduleFilter(model, enabled), limit=limit, after=after)
    return ScheduleList(
        data=[ScheduleOut.of(each) for each in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{id}")
async def get_schedule(
    id: Id, response: Response, caller: Caller, queries: Queries
) -> ScheduleView:
    """One schedule with its next ticks."""
    return await _shown(await queries.get(caller, ScheduleId(id)), queries, response)


@router.patch("/{id}", responses=CHANGE)
async def change_schedule(
    id: Id,
    body: SchedulePatch,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[ChangeScheduleHandler, provided(lambda c: c.change_schedule())],
    if_match: IfMatch = None,
) -> ScheduleView:
    """What is not sent stays. Only the owner may; from then on it is this call's credential that
    stands behind the schedule."""
    command = ChangeSchedule(
        actor=caller,
        id=ScheduleId(id),
        timing=body.timing(),
        order=body.order(),
        fields=body.fields(),
        enabled=body.enabled,
        if_match=if_match,
    )
    return await _shown(await handle(command), queries, response)


@router.delete("/{id}", responses=errors_of(409, 412))
async def delete_schedule(
    id: Id,
    caller: Caller,
    handle: Annotated[RemoveScheduleHandler, provided(lambda c: c.remove_schedule())],
    if_match: IfMatch = None,
) -> Deleted:
    """No further run is begun; those that were go on, and stay on record."""
    gone = await handle(RemoveSchedule(caller, ScheduleId(id), if_match))
    return Deleted(id=gone.id)


@router.post("/{id}/pause", responses=errors_of(409))
async def pause_schedule(
    id: Id,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[PauseScheduleHandler, provided(lambda c: c.pause_schedule())],
) -> ScheduleView:
    """No tick is kept until it is resumed."""
    schedule = await handle(PauseSchedule(caller, ScheduleId(id)))
    return await _shown(schedule, queries, response)


@router.post("/{id}/resume", responses=errors_of(409))
async def resume_schedule(
    id: Id,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[ResumeScheduleHandler, provided(lambda c: c.resume_schedule())],
) -> ScheduleView:
    """Go on with the next tick. Those in the pause count as missed: `backfill` says what becomes
    of them."""
    schedule = await handle(ResumeSchedule(caller, ScheduleId(id)))
    return await _shown(schedule, queries, response)


@router.post("/{id}/run", status_code=202, responses=errors_of(409))
async def run_schedule_now(
    id: Id,
    response: Response,
    caller: Caller,
    handle: Annotated[RunScheduleNowHandler, provided(lambda c: c.run_schedule_now())],
) -> TickOut:
    """One run out of turn, also of a paused schedule; its ticks stay as they are."""
    view = await handle(RunScheduleNow(caller, ScheduleId(id)))
    response.headers["Location"] = f"/v1/runs/{view.tick.id}"
    return TickOut.of(view)


@router.get("/{id}/runs")
async def list_schedule_runs(
    id: Id, caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> TickList:
    """What became of its ticks, the newest first: runs, and ticks without one."""
    page = await queries.ticks(caller, ScheduleId(id), limit=limit, after=after)
    return TickList(
        data=[TickOut.of(each) for each in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


async def _shown(schedule: Schedule, queries: ScheduleQueries, response: Response) -> ScheduleView:
    response.headers["ETag"] = schedule.etag
    return ScheduleView.at(schedule, await queries.ahead(schedule))
