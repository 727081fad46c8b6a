from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.durable import CancelRun, RetryRun
from runtime.application.commands.feedback import GiveFeedback
from runtime.application.handlers.durable import (
    CancelRunHandler,
    RetryRunHandler,
    StartRunHandler,
)
from runtime.application.handlers.feedback import GiveFeedbackHandler
from runtime.application.queries.feedback import FeedbackQueries
from runtime.application.queries.runs import RunQueries, SeenRun
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.feedback import MAX_COMMENT, Feedback, Rating
from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.value_objects.ids import AgentId, RunId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.runs_wire import (
    RunList,
    RunOut,
    RunStepList,
    RunStepOut,
    StartRunIn,
)

router = APIRouter(
    prefix="/v1/runs", tags=["Runs"], responses=PLATFORM_ERRORS, route_class=StrictRoute
)
Queries = Annotated[RunQueries, provided(lambda c: c.run_queries())]


@router.post("", status_code=202, responses=errors_of(409, 413, 422, 429))
async def start_run(
    body: StartRunIn,
    request: Request,
    response: Response,
    caller: Caller,
    start: Annotated[StartRunHandler, provided(lambda c: c.start_run())],
) -> RunOut:
    """Order a run that goes on without you, and outlives this process: its end is certain once
    this is answered. Send an `Idempotency-Key`, and the same order is never taken twice."""
    body.check_options()
    run = await start(body.command(caller))
    # The request may have been the last of its client: what it began goes on.
    request.state.goes_on = True
    return _accepted(run, response)


def _accepted(run: DurableRun, response: Response) -> RunOut:
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return RunOut.of(SeenRun(None, run))


@router.get("")
async def list_runs(
    caller: Caller,
    queries: Queries,
    agent_id: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[RunStatus | None, Query()] = None,
    session_id: Annotated[str | None, Query(max_length=512)] = None,
    limit: Limit = 50,
    after: After = None,
) -> RunList:
    """All runs, newest first: those that callers waited for once they have ended, durable ones from
    their order on."""
    where = RunFilter(
        agent_id=AgentId(agent_id) if agent_id else None, status=status, session_id=session_id
    )
    page = await queries.page(caller, where, limit=limit, after=after)
    return RunList(
        data=[RunOut.of(run) for run in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


class FeedbackIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"rating": "up", "comment": "Just what I needed."}]},
    )

    rating: Rating
    comment: str | None = Field(default=None, max_length=MAX_COMMENT)


class FeedbackOut(BaseModel):
    run_id: str
    owner_id: str
    rating: Rating
    comment: str | None
    at: datetime

    @classmethod
    def of(cls, given: Feedback) -> "FeedbackOut":
        return cls(
            run_id=given.run_id,
            owner_id=given.owner_id,
            rating=given.rating,
            comment=given.comment,
            at=given.at,
        )


class FeedbackList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FeedbackOut]


@router.post("/{id}/feedback")
async def give_feedback(
    id: str,
    body: FeedbackIn,
    caller: Caller,
    handle: Annotated[GiveFeedbackHandler, provided(lambda c: c.give_feedback())],
) -> FeedbackOut:
    """Say what you think of a run's answer; a second opinion takes the place of the first."""
    command = GiveFeedback(
        caller=caller, run_id=RunId(id), rating=body.rating, comment=body.comment
    )
    return FeedbackOut.of(await handle(command))


@router.get("/{id}/feedback")
async def get_feedback(
    id: str,
    caller: Caller,
    queries: Annotated[FeedbackQueries, provided(lambda c: c.feedback_queries())],
) -> FeedbackList:
    """What was said of a run: your own opinion; an admin sees everybody's."""
    found = await queries.of_run(caller, RunId(id))
    return FeedbackList(data=[FeedbackOut.of(each) for each in found])


@router.get("/{id}")
async def get_run(id: str, caller: Caller, queries: Queries) -> RunOut:
    """How a run stands or went: usage, timings, steps, tools. Its id is in a completion's
    `metadata`."""
    return RunOut.of(await queries.seen(caller, RunId(id)))


@router.get("/{id}/steps")
async def list_steps(id: str, caller: Caller, queries: Queries) -> RunStepList:
    """Its steps in the order in which they began: of a durable run while it goes on, too."""
    return RunStepList(
        data=[RunStepOut.of(step) for step in await queries.steps(caller, RunId(id))]
    )


@router.post("/{id}/cancel", responses=errors_of(409))
async def cancel_run(
    id: str,
    caller: Caller,
    cancel: Annotated[CancelRunHandler, provided(lambda c: c.cancel_run())],
    queries: Queries,
) -> RunOut:
    """End a durable run, at whatever replica it goes on. One that has ended stays as it is."""
    await cancel(CancelRun(caller, RunId(id)))
    return RunOut.of(await queries.seen(caller, RunId(id)))


@router.post("/{id}/retry", status_code=202, responses=errors_of(409, 429))
async def retry_run(
    id: str,
    response: Response,
    caller: Caller,
    retry: Annotated[RetryRunHandler, provided(lambda c: c.retry_run())],
) -> RunOut:
    """A new run of the same order, from the start: its tools are called anew."""
    return _accepted(await retry(RetryRun(caller, RunId(id))), response)
