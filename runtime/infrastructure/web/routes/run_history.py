from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.durable_forks import ForkRun, ResumeRun
from runtime.application.handlers.durable_forks import ForkRunHandler, ResumeRunHandler
from runtime.application.queries.checkpoints import CheckpointQueries
from runtime.application.queries.runs import SeenRun
from runtime.domain.entities.durable import DurableRun
from runtime.domain.services.states import SeenCheckpoint
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.runs_wire import InputIn, RunOut, messages_of

router = APIRouter(
    prefix="/v1/runs", tags=["Runs"], responses=PLATFORM_ERRORS, route_class=StrictRoute
)
CHECKPOINT = "1f0c6a55-6d61-6f3c-8001-2f7d7a3d7b2c"


class InterruptOut(BaseModel):
    id: str
    value: Any = Field(description="What the graph says to the person.")


class TaskOut(BaseModel):
    id: str
    name: str
    finished: bool
    interrupts: list[InterruptOut] = Field(description="Those that wait for an answer.")


class CheckpointOut(BaseModel):
    id: str
    parent_id: str | None
    step: int
    source: str = Field(
        description="`input`, `loop`; `copy`, `fork` or `turn` where a run began with one of "
        "another run's."
    )
    created_at: datetime
    next: list[str] = Field(description="The nodes that come now; none where the graph is done.")
    tasks: list[TaskOut] = Field(description="What of them was begun.")
    values: dict[str, Any] = Field(description="The state; long texts and lists are cut.")

    @classmethod
    def of(cls, seen: SeenCheckpoint) -> Self:
        return cls(
            id=seen.id,
            parent_id=seen.parent_id,
            step=seen.step,
            source=seen.source,
            created_at=seen.created_at,
            next=list(seen.next),
            tasks=[
                TaskOut(
                    id=task.id,
                    name=task.name,
                    finished=task.finished,
                    interrupts=[InterruptOut(id=i.id, value=i.value) for i in task.interrupts],
                )
                for task in seen.tasks
            ],
            values=dict(seen.values),
        )


class CheckpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[CheckpointOut]
    has_more: bool
    next_cursor: str | None


class ForkIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"checkpoint_id": CHECKPOINT, "input": "And in Rome?"},
                {"checkpoint_id": CHECKPOINT, "values": {"rounds": 0}},
            ]
        },
    )

    checkpoint_id: str = Field(min_length=1, max_length=200)
    input: InputIn | None = Field(
        default=None,
        description="Begins another turn on the state of the checkpoint. Without it the run goes "
        "on from there.",
    )
    values: dict[Annotated[str, Field(max_length=200)], Any] | None = Field(
        default=None,
        max_length=100,
        description="Changes the state as if a node had returned them.",
    )


@router.get("/{id}/checkpoints")
async def list_checkpoints(
    id: str,
    caller: Caller,
    queries: Annotated[CheckpointQueries, provided(lambda c: c.checkpoint_queries())],
    limit: Limit = 20,
    after: After = None,
) -> CheckpointList:
    """The states between the steps of a durable run on LangGraph, newest first."""
    page = await queries.page(caller, RunId(id), limit=limit, after=after)
    return CheckpointList(
        data=[CheckpointOut.of(each) for each in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.post("/{id}/fork", status_code=202, responses=errors_of(409, 413, 422, 429))
async def fork_run(
    id: str,
    body: ForkIn,
    request: Request,
    response: Response,
    caller: Caller,
    fork: Annotated[ForkRunHandler, provided(lambda c: c.fork_run())],
) -> RunOut:
    """A new run that begins at a checkpoint of this one: as it was, with other values, or with
    another turn. This one stays as it is."""
    messages = None if body.input is None else messages_of(body.input)
    command = ForkRun(caller, RunId(id), body.checkpoint_id, messages, body.values)
    forked = await fork(command)
    request.state.goes_on = True
    return _accepted(forked, response)


@router.post("/{id}/resume", status_code=202, responses=errors_of(409, 413, 429))
async def resume_run(
    id: str,
    request: Request,
    response: Response,
    caller: Caller,
    resume: Annotated[ResumeRunHandler, provided(lambda c: c.resume_run())],
) -> RunOut:
    """A new run that goes on where one that failed or was cancelled ended: steps and calls of
    tools that it finished are not made again."""
    resumed = await resume(ResumeRun(caller, RunId(id)))
    request.state.goes_on = True
    return _accepted(resumed, response)


def _accepted(run: DurableRun, response: Response) -> RunOut:
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return RunOut.of(SeenRun(None, run))
