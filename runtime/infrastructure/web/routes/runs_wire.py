"""Runs as JSON."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field

from runtime.application.commands.durable import RunWebhook, StartRun
from runtime.application.queries.runs import SeenRun, SeenStep
from runtime.domain.entities.durable import MAX_PRIORITY, DurableRun
from runtime.domain.entities.runs import Run, RunStatus, StepRecord, ToolRecord
from runtime.domain.value_objects.chat import MAX_MESSAGES, ChatRole, Message
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.openai.wire_messages import MessageIn
from runtime.infrastructure.web.openai.wire_options import Metadata, ModelOptionsIn

MAX_INPUT = 1_000_000
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _sane(at: datetime) -> datetime:
    """What every database can hold."""
    if not FIRST <= at <= LAST:
        raise ValueError("it is not between the years 2000 and 2200")
    return at.astimezone(UTC)


Address = Annotated[str, Field(pattern=r"^https?://", max_length=2_048)]
Instant = Annotated[AwareDatetime, AfterValidator(_sane)]


InputIn = (
    Annotated[str, Field(min_length=1, max_length=MAX_INPUT)]
    | Annotated[list[MessageIn], Field(min_length=1, max_length=MAX_MESSAGES)]
)


def messages_of(input: InputIn) -> list[Message]:
    if isinstance(input, str):
        return [Message(ChatRole.USER, input)]
    return [message.message() for message in input]


class StepOut(BaseModel):
    name: str
    status: str
    duration_ms: float
    attempts: int

    @classmethod
    def of(cls, step: StepRecord) -> Self:
        return cls(
            name=step.name,
            status=step.status,
            duration_ms=step.duration_ms,
            attempts=step.attempts,
        )


class ToolOut(BaseModel):
    name: str
    status: str
    duration_ms: float

    @classmethod
    def of(cls, tool: ToolRecord) -> Self:
        return cls(name=tool.name, status=tool.status, duration_ms=tool.duration_ms)


class UsageOut(BaseModel):
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    estimated: bool = Field(description="The provider counted nothing; about 4 characters each.")

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(
            input_tokens=run.usage.input_tokens,
            output_tokens=run.usage.output_tokens,
            cached_tokens=run.usage.cached_tokens,
            reasoning_tokens=run.usage.reasoning_tokens,
            total_tokens=run.usage.total_tokens,
            estimated=run.usage_estimated,
        )


class ErrorOut(BaseModel):
    code: str
    message: str


class OriginOut(BaseModel):
    kind: str = Field(description="`retry`, `resume`, `fork` or `schedule`.")
    id: str = Field(description="Of the run that this one repeats or goes on from; the schedule's.")
    checkpoint_id: str | None


class RunOut(BaseModel):
    id: str
    agent_id: str
    model: str
    status: RunStatus
    durable: bool = Field(description="It outlives its caller and its process.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempt: int = Field(description="How often it was begun; 1 where nothing went wrong.")
    priority: int
    not_before: datetime | None
    deadline: datetime | None
    origin: OriginOut | None
    finish_reason: str | None
    error_code: str | None
    error: ErrorOut | None
    output: str | None = Field(description="The answer's text: of a durable run, asked for by id.")
    first_token_ms: float | None
    duration_ms: float | None
    usage: UsageOut | None
    models: list[str]
    steps: list[StepOut]
    tools: list[ToolOut]
    session_id: str | None
    metadata: dict[str, Any]
    owner_id: str
    key_id: str | None
    cost_usd: float | None = Field(description="None where some model has no price.")

    @classmethod
    def of(cls, seen: SeenRun) -> Self:
        fields = _blank()
        if seen.durable:
            fields |= _of_durable(seen.durable)
        if seen.record:
            fields |= _of_record(seen.record)
            fields["created_at"] = (seen.durable or _Begun(seen.record)).created_at
        return cls(**fields, output=seen.output)


class _Begun:
    def __init__(self, run: Run) -> None:
        self.created_at = run.started_at


def _blank() -> dict[str, Any]:
    return {
        "durable": False,
        "attempt": 1,
        "priority": 0,
        "not_before": None,
        "deadline": None,
        "origin": None,
        "error": None,
        "finish_reason": None,
        "error_code": None,
        "first_token_ms": None,
        "duration_ms": None,
        "usage": None,
        "models": [],
        "steps": [],
        "tools": [],
        "cost_usd": None,
    }


def _of_durable(run: DurableRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "agent_id": run.agent_id,
        "model": run.model,
        "status": run.status,
        "durable": True,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "attempt": run.attempt,
        "priority": run.priority,
        "not_before": run.not_before,
        "deadline": run.deadline,
        "origin": run.origin
        and OriginOut(
            kind=run.origin.kind, id=run.origin.id, checkpoint_id=run.origin.checkpoint_id
        ),
        "error": run.error and ErrorOut(code=run.error.code, message=run.error.message),
        "error_code": run.error and run.error.code,
        "session_id": run.order.session,
        "metadata": dict(run.order.metadata),
        "owner_id": run.owner_id,
        "key_id": run.order.caller.key_id,
    }


def _of_record(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "agent_id": run.agent_id,
        "model": run.model,
        "status": run.status,
        "finish_reason": run.finish_reason,
        "error_code": run.error_code,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "first_token_ms": run.first_token_ms,
        "duration_ms": run.duration_ms,
        "usage": UsageOut.of(run),
        "models": list(run.models),
        "steps": [StepOut.of(step) for step in run.steps],
        "tools": [ToolOut.of(tool) for tool in run.tools],
        "session_id": run.session_id,
        "metadata": dict(run.metadata),
        "owner_id": run.owner_id,
        "key_id": run.key_id,
        "cost_usd": None if run.cost is None else float(run.cost),
    }


class RunList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RunOut]
    has_more: bool
    next_cursor: str | None


class WebhookIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Address
    secret: str | None = Field(
        default=None,
        max_length=128,
        description="`whsec_` and 24 to 64 bytes as base64; what the call is signed with.",
    )


class StartRunIn(ModelOptionsIn):
    model_config = ConfigDict(
        extra="forbid",
        strict=False,
        json_schema_extra={
            "examples": [
                {"model": "assistant", "input": "Write the weekly report."},
                {
                    "model": "assistant",
                    "input": [{"role": "user", "content": "Sort the inbox."}],
                    "priority": 10,
                    "metadata": {"ticket": "T-42"},
                },
            ]
        },
    )

    model: str = Field(
        validation_alias=AliasChoices("model", "agent"),
        min_length=1,
        max_length=200,
        description="A published agent: `support`, `support@v7`, `support@draft`, or an agent id. "
        "`agent` is taken for it too.",
    )
    input: InputIn = Field(description="What the user says, or messages as in a chat completion.")
    session_id: str | None = Field(
        default=None,
        validation_alias=AliasChoices("session_id", "session"),
        min_length=1,
        max_length=200,
        description="The conversation that this is a turn of: `conv_…`, or a name of your own.",
    )
    metadata: Metadata | None = None
    priority: int = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Among your own runs that wait the highest is begun first.",
    )
    not_before: Instant | None = Field(default=None, description="It waits until then.")
    deadline: Instant | None = Field(
        default=None, description="It has failed if it has not ended by then."
    )
    webhook: WebhookIn | Address | None = Field(
        default=None, description="Where the end of this run is told: an address, or more of it."
    )

    def command(self, caller: Principal) -> StartRun:
        hook = WebhookIn(url=self.webhook) if isinstance(self.webhook, str) else self.webhook
        return StartRun(
            caller=caller,
            model=self.model,
            messages=messages_of(self.input),
            options=self.options(),
            session=self.session_id,
            metadata=self.metadata or {},
            priority=self.priority,
            not_before=self.not_before,
            deadline=self.deadline,
            webhook=RunWebhook(url=hook.url, secret=hook.secret) if hook else None,
        )


class EventPageOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]] = Field(
        description="Each with its `seq`, its `type`, and what belongs to that type."
    )
    has_more: bool


class RunStepOut(BaseModel):
    id: str | None = Field(description="Of a durable run's.")
    name: str
    status: Literal["running", "success", "error"] = Field(
        description="error: it failed, or was cut off by the end of its run."
    )
    attempt: int = Field(description="The attempt of the run that began it.")
    duration_ms: float | None
    attempts: int = Field(description="How often its code was tried in the end.")

    @classmethod
    def of(cls, step: SeenStep) -> Self:
        return cls(
            id=step.id,
            name=step.name,
            status=step.status,
            attempt=step.attempt,
            duration_ms=step.duration_ms,
            attempts=step.attempts,
        )


class RunStepList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RunStepOut]
