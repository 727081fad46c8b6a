"""Webhooks as JSON."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from runtime.application.commands.webhooks import WebhookFields
from runtime.application.handlers.webhooks import Revealed, Trial
from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook, WebhookScope

EventName = Literal[
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.waiting",
    "agent.submitted",
    "agent.published",
    "agent.revoked",
    "*",
]
EXAMPLE: dict[str, Any] = {
    "url": "https://hooks.example.com/agents",
    "events": ["run.completed", "run.failed"],
    "description": "Tells the ticket system.",
}
Url = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Events = Annotated[list[EventName], Field(min_length=1, max_length=8)]
Agent = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Secret = Annotated[SecretStr, Field(max_length=128)]
STRICT = ConfigDict(extra="forbid", strict=True)


class WebhookPatch(BaseModel):
    model_config = STRICT | ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | None = None
    events: Events | None = None
    agent: Agent | None = Field(
        default=None,
        description="Events of this agent only, of all its versions: its slug, its id or that of a "
        "version. Null: of every agent.",
    )
    scope: Literal["own", "project"] | None = Field(
        default=None,
        description="`own`: of one's own runs and agents. `project`: of everybody's; for admins.",
    )
    description: Annotated[str, StringConstraints(max_length=500)] | None = None
    enabled: bool | None = None
    include_output: bool | None = Field(
        default=None, description="With the text of a run that has ended, at most 64 KB of it."
    )

    def fields(self) -> WebhookFields:
        """What was sent; null for what must be there stands for nothing."""
        found = WebhookFields()
        if self.url is not None:
            found["url"] = self.url
        if self.events is not None:
            found["types"] = frozenset(self.events)
        if "agent" in self.model_fields_set:
            found["agent"] = self.agent
        if self.scope is not None:
            found["scope"] = WebhookScope(self.scope)
        if self.description is not None:
            found["description"] = self.description
        if self.enabled is not None:
            found["enabled"] = self.enabled
        if self.include_output is not None:
            found["include_output"] = self.include_output
        return found


class SecretIn(BaseModel):
    model_config = STRICT | ConfigDict(json_schema_extra={"examples": [{}]})

    secret: Secret | None = Field(
        default=None,
        description="`whsec_` and the Base64 of 24 to 64 random bytes. Unset: one is made, and "
        "shown this once.",
    )

    @property
    def given(self) -> str | None:
        return self.secret.get_secret_value() if self.secret else None


class WebhookCreate(WebhookPatch, SecretIn):
    model_config = STRICT | ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    url: Url
    events: Events


class WebhookOut(BaseModel):
    id: str
    url: str
    events: list[str]
    agent_line_id: str | None
    scope: str
    description: str
    enabled: bool
    include_output: bool
    owner_id: str
    created_at: datetime
    updated_at: datetime
    previous_secret_until: datetime | None = Field(
        description="Until then the secret before this one signs too."
    )
    failing_since: datetime | None = Field(description="Nothing was delivered since.")
    disabled_reason: str | None = Field(description="Why the runtime disabled it.")

    @classmethod
    def fields_of(cls, webhook: Webhook) -> dict[str, Any]:
        return {
            "id": webhook.id,
            "url": webhook.url,
            "events": webhook.ordered_types,
            "agent_line_id": webhook.line_id,
            "scope": webhook.scope.value,
            "description": webhook.description,
            "enabled": webhook.enabled,
            "include_output": webhook.include_output,
            "owner_id": webhook.owner_id,
            "created_at": webhook.created_at,
            "updated_at": webhook.updated_at,
            "previous_secret_until": webhook.previous_until,
            "failing_since": webhook.failing_since,
            "disabled_reason": webhook.disabled_reason,
        }

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookOut":
        return cls(**cls.fields_of(webhook))


class WebhookRevealed(WebhookOut):
    secret: str | None = Field(description="Shown this once; null if it was the caller's own.")

    @classmethod
    def showing(cls, revealed: Revealed) -> "WebhookRevealed":
        secret = revealed.secret
        return cls(**cls.fields_of(revealed.webhook), secret=secret.text if secret else None)


class WebhookList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookOut]
    has_more: bool
    next_cursor: str | None


class WebhookRemoved(BaseModel):
    id: str
    deleted: Literal[True] = True


class WebhookTrialOut(BaseModel):
    delivered: bool
    status_code: int | None
    error: str | None
    response: str | None = Field(description="The beginning of the answer.")
    duration_ms: float

    @classmethod
    def of(cls, trial: Trial) -> "WebhookTrialOut":
        return cls(
            delivered=trial.delivered,
            status_code=trial.status_code,
            error=trial.error,
            response=trial.response,
            duration_ms=round(trial.duration_ms, 1),
        )


class DeliveryOut(BaseModel):
    id: str = Field(description="The `webhook-id` of every try.")
    type: str
    status: DeliveryStatus
    attempts: int
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next; null once it has ended.")
    ended_at: datetime | None
    last_status_code: int | None
    last_error: str | None
    last_response: str | None = Field(description="The beginning of the last answer.")

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        return cls(
            id=delivery.id,
            type=delivery.type,
            status=delivery.status,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            next_at=delivery.next_at,
            ended_at=delivery.ended_at,
            last_status_code=delivery.status_code,
            last_error=delivery.error,
            last_response=delivery.response,
        )


class DeliveryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[DeliveryOut]
    has_more: bool
    next_cursor: str | None
