"""Schedules as JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtime.application.commands.schedules import OrderFields, ScheduleFields, Timing
from runtime.domain.entities.durable import MAX_PRIORITY, RunProblem
from runtime.domain.entities.runs import RunStatus
from runtime.domain.entities.schedules import MAX_NAME, Schedule, TickStatus, TickView
from runtime.domain.errors import UnsupportedParameter
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.schedules import (
    MAX_BACKFILL,
    MAX_EVERY_S,
    MAX_EXPRESSION,
    MIN_EVERY_S,
    Backfill,
    Cron,
    Every,
    Overlap,
)
from runtime.infrastructure.web.openai.chat_objects import asked_object
from runtime.infrastructure.web.openai.sessions import checked_name
from runtime.infrastructure.web.openai.wire_messages import MessageIn, check_messages
from runtime.infrastructure.web.openai.wire_options import Metadata, ModelOptionsIn

MOST_MESSAGES = 256
MAX_INPUT_BYTES = 256_000
LONGEST_S = 30 * 24 * 3_600
EXAMPLE: dict[str, Any] = {
    "name": "nightly digest",
    "model": "assistant",
    "input": "Sum up what happened since yesterday.",
    "cron": "0 7 * * mon-fri",
    "timezone": "Europe/Berlin",
}
EVERY_EXAMPLE: dict[str, Any] = {
    "name": "watch the queue",
    "model": "assistant",
    "input": [{"role": "user", "content": "Is there anything new?"}],
    "every_s": 3_600,
    "overlap": "skip",
}
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Model = Annotated[
    str, Field(min_length=1, max_length=200, description="An agent; resolved at each tick.")
]
Input = (
    Annotated[str, Field(min_length=1)]
    | Annotated[list[MessageIn], Field(min_length=1, max_length=MOST_MESSAGES)]
)


class OptionsIn(ModelOptionsIn):
    model_config = ConfigDict(strict=True, extra="forbid")

    def check_options(self) -> None:
        """Raises UnsupportedParameter, as there is nobody who would carry out tool calls."""
        if self.tools or self.tool_choice is not None or self.parallel_tool_calls is not None:
            raise UnsupportedParameter("options.tools", "nobody waits to carry them out.")


class SchedulePatch(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"cron": "30 6 * * *"}]},
    )

    name: Name | None = None
    model: Model | None = None
    input: Input | None = Field(default=None, description="What each run is asked.")
    options: OptionsIn | None = Field(
        default=None, description="As in chat completions: temperature, max_tokens and so on."
    )
    session_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Each run is a turn of this session; null: each stands alone.",
    )
    metadata: Metadata | None = Field(default=None, description="Kept with each run.")
    cron: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_EXPRESSION,
        description="minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, "
        "@monthly, @yearly.",
    )
    timezone: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Of the cron expression, as `Europe/Berlin`; at first `UTC`.",
    )
    every_s: int | None = Field(
        default=None,
        ge=MIN_EVERY_S,
        le=MAX_EVERY_S,
        description="Instead of cron: an interval, counted from when it is set.",
    )
    backfill: Literal["skip", "one", "all"] | None = Field(
        default=None,
        description="What becomes of ticks that no process was there to keep, a minute later: "
        "nothing, one run for the newest, or one for each.",
    )
    max_backfill: int | None = Field(
        default=None, ge=1, le=MAX_BACKFILL, description="At most so many at once, the newest."
    )
    overlap: Literal["allow", "skip"] | None = Field(
        default=None, description="`skip`: no run begins while one of the schedule goes on."
    )
    priority: int | None = Field(default=None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    deadline_s: float | None = Field(
        default=None, ge=1, le=LONGEST_S, description="How long each run may take; null: for ever."
    )
    enabled: bool | None = None

    @field_validator("input")
    @classmethod
    def _not_too_much(cls, value: str | list[Any] | None) -> str | list[Any] | None:
        said = value if isinstance(value, str) else [each.model_dump() for each in value or ()]
        if len(orjson.dumps(said)) > MAX_INPUT_BYTES:
            raise ValueError(f"it is larger than {MAX_INPUT_BYTES} bytes")
        return value

    def timing(self) -> Timing:
        return Timing(self.cron, self.timezone, self.every_s)

    def order(self) -> OrderFields:
        """What was sent. Raises InvalidValue, UnsupportedParameter."""
        found = OrderFields()
        sent = self.model_fields_set
        if isinstance(self.input, str):
            found["messages"] = [Message(ChatRole.USER, self.input)]
        elif self.input is not None:
            check_messages(self.input, begun=False)
            found["messages"] = [message.message() for message in self.input]
        if "options" in sent:
            options = self.options or OptionsIn()
            options.check_options()
            found["options"] = options.options()
        if "session_id" in sent:
            name = self.session_id
            found["session"] = None if name is None else checked_name(name, "session_id")
        if "metadata" in sent:
            found["metadata"] = self.metadata or {}
        return found

    def fields(self) -> ScheduleFields:
        """What was sent; null for what must be there stands for nothing."""
        found = ScheduleFields()
        if self.name is not None:
            found["name"] = self.name
        if self.model is not None:
            found["model"] = self.model
        if self.backfill is not None:
            found["backfill"] = Backfill(self.backfill)
        if self.max_backfill is not None:
            found["max_backfill"] = self.max_backfill
        if self.overlap is not None:
            found["overlap"] = Overlap(self.overlap)
        if self.priority is not None:
            found["priority"] = self.priority
        if "deadline_s" in self.model_fields_set:
            found["deadline_s"] = self.deadline_s
        return found


class ScheduleCreate(SchedulePatch):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, EVERY_EXAMPLE]})

    name: Name
    model: Model
    input: Input = Field(description="What each run is asked.")


class Problem(BaseModel):
    code: str
    message: str

    @classmethod
    def of(cls, problem: RunProblem | None) -> "Problem | None":
        return cls(code=problem.code, message=problem.message) if problem else None


class ScheduleOut(BaseModel):
    id: str
    owner_id: str
    name: str
    model: str
    input: str | list[dict[str, Any]]
    options: dict[str, Any]
    session_id: str | None
    metadata: dict[str, Any]
    cron: str | None
    timezone: str | None
    every_s: int | None
    backfill: Backfill
    max_backfill: int
    overlap: Overlap
    priority: int
    deadline_s: float | None
    enabled: bool
    paused_because: str | None = Field(description="Where it was not somebody who paused it.")
    next_at: datetime | None = Field(description="Null while it is paused.")
    last_tick: datetime | None
    last_run_id: str | None
    last_error: Problem | None = Field(description="Why the last tick began no run.")
    failures: int = Field(description="Ticks in a row that could not begin a run.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, schedule: Schedule) -> "ScheduleOut":
        return cls(**_shown(schedule))


class ScheduleView(ScheduleOut):
    next_ticks: list[datetime] = Field(description="The next five, as if it were not paused.")

    @classmethod
    def at(cls, schedule: Schedule, ticks: Sequence[datetime]) -> "ScheduleView":
        return cls(**_shown(schedule), next_ticks=list(ticks))


class ScheduleList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ScheduleOut]
    has_more: bool
    next_cursor: str | None


class TickOut(BaseModel):
    tick: datetime = Field(description="When it was due.")
    decided_at: datetime
    manual: bool = Field(description="Asked for by POST …/run.")
    status: TickStatus
    run_id: str | None = Field(description="Null where no run was begun.")
    run_status: RunStatus | None = Field(description="Null also where its record is pruned.")
    error: Problem | None = Field(description="Why there is no run, or why it failed.")

    @classmethod
    def of(cls, view: TickView) -> "TickOut":
        tick = view.tick
        return cls(
            tick=tick.at,
            decided_at=tick.decided_at,
            manual=tick.manual,
            status=tick.status,
            run_id=tick.id if tick.status is TickStatus.STARTED else None,
            run_status=view.run_status,
            error=Problem.of(tick.error or view.run_error),
        )


class TickList(BaseModel):
    object: Literal["list"] = "list"
    data: list[TickOut]
    has_more: bool
    next_cursor: str | None


class Deleted(BaseModel):
    id: str
    deleted: Literal[True] = True


def _shown(schedule: Schedule) -> dict[str, Any]:
    trigger, order = schedule.trigger, schedule.order
    return {
        "id": schedule.id,
        "owner_id": schedule.owner_id,
        "name": schedule.name,
        "model": schedule.model,
        "input": _input(order.messages),
        "options": {name: value for name, value in order.options.given() if name != "tools"},
        "session_id": order.session,
        "metadata": dict(order.metadata),
        "cron": trigger.expression if isinstance(trigger, Cron) else None,
        "timezone": trigger.timezone if isinstance(trigger, Cron) else None,
        "every_s": trigger.seconds if isinstance(trigger, Every) else None,
        "backfill": schedule.backfill,
        "max_backfill": schedule.max_backfill,
        "overlap": schedule.overlap,
        "priority": schedule.priority,
        "deadline_s": schedule.deadline_s,
        "enabled": schedule.enabled,
        "paused_because": schedule.paused_because,
        "next_at": schedule.next_at if schedule.enabled else None,
        "last_tick": schedule.last_tick,
        "last_run_id": schedule.last_run_id,
        "last_error": Problem.of(schedule.last_error),
        "failures": schedule.failures,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
    }


def _input(messages: Sequence[Message]) -> str | list[dict[str, Any]]:
    if len(messages) == 1 and messages[0] == Message(ChatRole.USER, messages[0].text):
        return messages[0].text
    return [_message(message) for message in messages]


def _message(message: Message) -> dict[str, Any]:
    """As it was sent."""
    shown = asked_object("", message)
    parts = shown.pop("content_parts")
    shown["content"] = parts or shown["content"]
    del shown["id"]
    return {name: value for name, value in shown.items() if value is not None}
