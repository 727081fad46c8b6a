from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.feedback import GiveFeedback
from runtime.application.handlers.feedback import GiveFeedbackHandler
from runtime.application.queries.feedback import FeedbackQueries
from runtime.application.queries.runs import RunQueries
from runtime.domain.entities.feedback import MAX_COMMENT, Feedback, Rating
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.repositories.runs import RunFilter
from runtime.domain.value_objects.ids import AgentId, RunId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS

router = APIRouter(
    prefix="/v1/runs", tags=["Runs"], responses=PLATFORM_ERRORS, route_class=StrictRoute
)
Queries = Annotated[RunQueries, provided(lambda c: c.run_queries())]


class StepOut(BaseModel):
    name: str
    status: str
    duration_ms: float
    attempts: int


class ToolOut(BaseModel):
    name: str
    status: str
    duration_ms: float


class UsageOut(BaseModel):
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    estimated: bool = Field(description="The provider counted nothing; about 4 characters each.")


class RunOut(BaseModel):
    id: str
    agent_id: str
    model: str
    status: RunStatus
    finish_reason: str | None
    error_code: str | None
    started_at: datetime
    ended_at: datetime
    first_token_ms: float | None
    duration_ms: float
    usage: UsageOut
    models: list[str]
    steps: list[StepOut]
    tools: list[ToolOut]
    session_id: str | None
    metadata: dict[str, Any]
    owner_id: str
    key_id: str | None
    cost_usd: float | None = Field(description="None where some model has no price.")

    @classmethod
    def of(cls, run: Run) -> "RunOut":
        return cls(
            id=run.id,
            agent_id=run.agent_id,
            model=run.model,
            status=run.status,
            finish_reason=run.finish_reason,
            error_code=run.error_code,
            started_at=run.started_at,
            ended_at=run.ended_at,
            first_token_ms=run.first_token_ms,
            duration_ms=run.duration_ms,
            usage=UsageOut(
                input_tokens=run.usage.input_tokens,
                output_tokens=run.usage.output_tokens,
                cached_tokens=run.usage.cached_tokens,
                reasoning_tokens=run.usage.reasoning_tokens,
                total_tokens=run.usage.total_tokens,
                estimated=run.usage_estimated,
            ),
            models=list(run.models),
            steps=[
                StepOut(
                    name=step.name,
                    status=step.status,
                    duration_ms=step.duration_ms,
                    attempts=step.attempts,
                )
                for step in run.steps
            ],
            tools=[
                ToolOut(name=tool.name, status=tool.status, duration_ms=tool.duration_ms)
                for tool in run.tools
            ],
            session_id=run.session_id,
            metadata=dict(run.metadata),
            owner_id=run.owner_id,
            key_id=run.key_id,
            cost_usd=None if run.cost is None else float(run.cost),
        )


class RunList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RunOut]
    has_more: bool
    next_cursor: str | None


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
    """Ended runs, newest first."""
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
    """How a run went: usage, timings, steps, tools. Its id is in a completion's `metadata`."""
    return RunOut.of(await queries.get(caller, RunId(id)))
