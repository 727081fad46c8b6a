"""What webhooks are sent, as the OpenAPI document describes it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from runtime.domain.value_objects.webhooks import EventType


class ProblemTold(BaseModel):
    code: str
    message: str


class UsageTold(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: float | None


class _Told(BaseModel):
    id: str
    agent_id: str
    agent_line_id: str
    model: str
    owner_id: str
    session_id: str | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    origin: dict[str, Any] | None
    metadata: dict[str, Any]
    link: str


class WaitingTold(_Told):
    status: Literal["waiting"]
    approvals: str = Field(description="Where the questions are.")


class RunTold(_Told):
    status: Literal["completed", "failed", "cancelled"]
    ended_at: datetime
    duration_ms: float
    finish_reason: str | None
    usage: UsageTold
    error: ProblemTold | None
    output: str | None = Field(default=None, description="With `include_output`, at most 64 KB.")
    output_truncated: bool | None = None


class AgentTold(BaseModel):
    id: str
    agent_line_id: str
    slug: str
    version: str
    name: str
    status: str
    content_hash: str
    owner_id: str
    author_id: str
    reviewer_id: str | None
    link: str


class RunMessage(BaseModel):
    type: Literal["run.completed", "run.failed", "run.cancelled"]
    timestamp: datetime
    data: RunTold


class WaitingMessage(BaseModel):
    type: Literal["run.waiting"]
    timestamp: datetime
    data: WaitingTold


class AgentMessage(BaseModel):
    type: Literal["agent.submitted", "agent.published", "agent.revoked"]
    timestamp: datetime
    data: AgentTold


Id = Annotated[str, Header(alias="webhook-id", description="The same with every try.")]
Timestamp = Annotated[int, Header(alias="webhook-timestamp", description="Seconds since 1970.")]
Signature = Annotated[str, Header(alias="webhook-signature", description="`v1,…`, one or more.")]


def describe(app: FastAPI) -> None:
    """Once somebody asks for the document: it is of no use before, and takes its time."""
    document = app.openapi

    def with_webhooks() -> dict[str, Any]:
        if not app.webhooks.routes:
            _add(app)
        return document()

    app.openapi = with_webhooks  # type: ignore[method-assign]


def _add(app: FastAPI) -> None:
    async def run(body: RunMessage, id: Id, at: Timestamp, signature: Signature) -> None:
        """A durable run has ended."""

    async def waiting(body: WaitingMessage, id: Id, at: Timestamp, signature: Signature) -> None:
        """A durable run waits for a person."""

    async def agent(body: AgentMessage, id: Id, at: Timestamp, signature: Signature) -> None:
        """An agent's life cycle goes on."""

    for type in EventType:
        told = waiting if type is EventType.RUN_WAITING else run if type[0] == "r" else agent
        app.webhooks.post(type.value, tags=["Webhooks"], status_code=204)(told)
