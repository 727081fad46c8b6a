import json
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.approvals import DecideApproval
from runtime.application.handlers.approvals import DecideApprovalHandler
from runtime.application.queries.approvals import ApprovalQueries
from runtime.domain.entities.approvals import MAX_REASON, Approval
from runtime.domain.entities.tool_calls import CallStatus, RecordedCall
from runtime.domain.repositories.approvals import ApprovalFilter
from runtime.domain.services.durability import ApprovalKind, Decision
from runtime.domain.services.tools import Approver
from runtime.domain.value_objects.ids import ApprovalId, RunId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of

router = APIRouter(
    prefix="/v1", tags=["Approvals"], responses=PLATFORM_ERRORS, route_class=StrictRoute
)
Queries = Annotated[ApprovalQueries, provided(lambda c: c.approval_queries())]
EXAMPLE: dict[str, Any] = {
    "decision": "edit",
    "arguments": {"order": "A-17", "amount": 20},
    "reason": "Half.",
}


class ApprovalOut(BaseModel):
    id: str
    run_id: str
    kind: ApprovalKind
    call_id: str | None = Field(description="Of the tool call that it is about.")
    tool: str | None
    arguments: Any = Field(description="What the tool is to be called with.")
    arguments_hash: str | None = Field(
        description="SHA-256 of them; send it with the decision, so that it is about these."
    )
    value: Any = Field(description="What the graph says where it interrupts itself.")
    approver: Approver = Field(
        description="owner: whom the run is for, or an admin. reviewer: one who is somebody else."
    )
    owner_id: str
    status: Literal["pending", "decided"]
    requested_at: datetime
    decision: Literal["approve", "reject", "edit"] | None
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    edited_arguments: Any
    answer: Any = Field(description="The `value` that was decided.")

    @classmethod
    def of(cls, approval: Approval) -> "ApprovalOut":
        answer = approval.answer
        return cls(
            id=approval.id,
            run_id=approval.run_id,
            kind=approval.kind,
            call_id=approval.call_id or None,
            tool=approval.tool or None,
            arguments=_json(approval.arguments),
            arguments_hash=approval.arguments_hash,
            value=approval.value,
            approver=approval.approver,
            owner_id=approval.owner_id,
            status="decided" if answer else "pending",
            requested_at=approval.requested_at,
            decision=answer.decision if answer else None,
            decided_by=approval.decided_by,
            decided_at=approval.decided_at,
            reason=(answer.reason or None) if answer else None,
            edited_arguments=_json(answer.arguments) if answer else None,
            answer=answer.value if answer else None,
        )


class ApprovalList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ApprovalOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Approval]) -> "ApprovalList":
        return cls(
            data=[ApprovalOut.of(each) for each in page.items],
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )


class DecisionIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    decision: Literal["approve", "reject", "edit"]
    arguments: dict[str, Any] | None = Field(
        default=None, description="With `edit`: what the tool is called with instead."
    )
    value: Any = Field(
        default=None,
        description="For an interrupt: what it returns. For a call whose outcome is not known, "
        "with `edit`: what it gave.",
    )
    reason: str = Field(default="", max_length=MAX_REASON)
    arguments_hash: str | None = Field(
        default=None, max_length=64, description="Of the arguments that you saw."
    )


class ToolCallOut(BaseModel):
    call_id: str | None
    step: str | None
    name: str
    arguments: Any
    status: CallStatus = Field(
        description="asked: it waits for a person. started: it goes on, or nobody knows how it "
        "ended."
    )
    output: str | None = Field(description="Its first 16,000 characters.")
    attempt: int = Field(
        description="The one that made it; 0: one of the run that this one goes on from."
    )
    started_at: datetime
    duration_ms: float | None

    @classmethod
    def of(cls, call: RecordedCall) -> "ToolCallOut":
        return cls(
            call_id=call.call_id or None,
            step=call.step or None,
            name=call.name,
            arguments=_json(call.arguments),
            status=call.status,
            output=call.output,
            attempt=call.attempt,
            started_at=call.started_at,
            duration_ms=call.duration_ms,
        )


class ToolCallList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ToolCallOut]
    has_more: bool
    next_cursor: str | None


@router.get("/approvals")
async def list_approvals(
    caller: Caller,
    queries: Queries,
    status: Annotated[Literal["pending", "decided"] | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> ApprovalList:
    """What runs wait for, or waited for, newest first: your own, with the role reviewer also what
    reviewers decide on, with the role admin the project's."""
    where = ApprovalFilter(decided=None if status is None else status == "decided")
    return ApprovalList.of(await queries.page(caller, where, limit=limit, after=after))


@router.get("/runs/{id}/approvals")
async def list_approvals_of_run(
    id: str, caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> ApprovalList:
    """What the run waits for, or waited for, newest first."""
    return ApprovalList.of(await queries.of_run(caller, RunId(id), limit=limit, after=after))


@router.post("/runs/{id}/approvals/{approval_id}", responses=errors_of(409, 413, 422))
async def decide_approval(
    id: str,
    approval_id: str,
    body: DecisionIn,
    caller: Caller,
    handle: Annotated[DecideApprovalHandler, provided(lambda c: c.decide_approval())],
) -> ApprovalOut:
    """Approve, reject or edit. Once nothing is left to decide, the run goes on."""
    answer = Decision(
        body.decision,
        None if body.arguments is None else json.dumps(body.arguments),
        body.value,
        body.reason,
    )
    command = DecideApproval(
        caller, RunId(id), ApprovalId(approval_id), answer, body.arguments_hash
    )
    return ApprovalOut.of(await handle(command))


@router.get("/runs/{id}/tool_calls")
async def list_tool_calls(
    id: str, caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> ToolCallList:
    """The run's calls of tools, oldest first. Of a run that was not durable its record has only
    names, times and how they went."""
    page = await queries.tool_calls(caller, RunId(id), limit=limit, after=after)
    return ToolCallList(
        data=[ToolCallOut.of(call) for call in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


def _json(text: str | None) -> object:
    """What is no JSON, as a model may write it, is shown as text."""
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
