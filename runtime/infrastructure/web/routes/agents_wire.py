"""Bodies of the agent routes, as the platform's interface has them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from runtime.application.commands.agents import AgentChange
from runtime.application.handlers.agents import Changed
from runtime.application.queries.agents import Difference
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.audit import AuditEntry
from runtime.domain.services.templates import PlatformBlanks
from runtime.domain.value_objects.agents import VersionType
from runtime.domain.value_objects.pages import Page

SUPPORT: dict[str, Any] = {
    "name": "Support",
    "description": "Answers customers of the web shop.",
    "template_id": "customer-service-bot",
    "template_config": {"company_name": "Acme", "tone": "friendly"},
}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ConversationConfig(Body):
    continuous: bool = True
    """False: every turn stands alone."""
    historyLength: int | None = Field(default=None, ge=1, le=10_000)

    @property
    def history_messages(self) -> int | None:
        return self.historyLength if self.continuous else 1


class AgentContent(Body):
    name: str | None = Field(default=None, min_length=1, max_length=128)
    description: str | None = Field(default=None, max_length=4_000)
    avatar_url: str | None = Field(default=None, max_length=2_000)
    type: str | None = Field(default=None, max_length=64)
    template_version_id: str | None = Field(
        default=None, max_length=64, description="Template version, such as 1.0.0; newest if unset."
    )
    template_config: dict[str, JsonValue] | None = Field(
        default=None, description="The template's blanks, filled. Unknown fields are refused."
    )
    system_prompt: str | None = Field(default=None, max_length=100_000)
    conversation_config: ConversationConfig | None = None
    toolsets: list[str] | None = Field(default=None, max_length=100)
    llm_config_id: str | None = Field(
        default=None,
        max_length=200,
        description="A model, `provider/name`; unset: the operator's default.",
        examples=["openai/gpt-4.1-mini"],
    )
    version_type: Literal["release", "beta"] | None = None

    def change(self, template_id: str | None) -> AgentChange:
        conversation = self.conversation_config
        return AgentChange(
            name=self.name,
            description=self.description,
            avatar_url=self.avatar_url,
            agent_type=self.type,
            template_id=template_id,
            template_version=self.template_version_id,
            config=self.template_config,
            blanks=PlatformBlanks(
                system_prompt=self.system_prompt,
                history_messages=conversation.history_messages if conversation else None,
                tools=self.toolsets,
            ),
            model=self.llm_config_id,
            version_type=VersionType(self.version_type) if self.version_type else None,
        )


class AgentCreate(AgentContent):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [SUPPORT]}
    )

    id: str | None = Field(default=None, max_length=64)
    name: str = Field(min_length=1, max_length=128)
    slug: str | None = Field(
        default=None, max_length=64, description="What callers write in `model`; made of `name`."
    )
    template_id: str = Field(min_length=1, max_length=128)
    agent_line_id: str | None = Field(
        default=None, max_length=64, description="Adds a version to this line."
    )
    version_number: str | None = Field(default=None, pattern=r"^v[1-9][0-9]{0,8}$")
    owner_id: str | None = Field(default=None, min_length=1, max_length=128)
    status: Literal["draft", "submitted", "pending", "published"] = "draft"


class AgentUpdate(AgentContent):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"template_config": {"tone": "formal"}}]},
    )

    template_id: str | None = Field(default=None, min_length=1, max_length=128)


class NewVersionIn(AgentUpdate):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"template_version_id": "1.1.0"}]},
    )


class Approval(Body):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"content_hash": None}]}
    )

    content_hash: str | None = Field(default=None, description="Of what was reviewed.")


class Rejection(Body):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"reason": "The tone is too casual."}]},
    )

    reason: str = Field(min_length=1, max_length=4_000)


class Revocation(Body):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"reason": "It promised refunds."}]},
    )

    reason: str = Field(default="", max_length=4_000)


class RollBack(Body):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"to": "v1"}]}
    )

    to: str | None = Field(
        default=None,
        pattern=r"^v[1-9][0-9]{0,8}$",
        description="Unset: the agent itself if it is superseded, else the version before it.",
    )


class AgentOut(BaseModel):
    id: str
    agent_line_id: str
    slug: str
    model: str = Field(description="What callers write in `model` for exactly this version.")
    name: str
    description: str
    avatar_url: str | None
    type: str
    status: str
    version_number: str
    version_type: str
    template_id: str
    template_version_id: str
    template_config: dict[str, Any]
    llm_config_id: str | None
    owner_id: str
    author_id: str
    reviewer_id: str | None
    rejection_reason: str | None
    content_hash: str
    etag: str
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None

    @classmethod
    def fields(cls, agent: Agent) -> dict[str, Any]:
        spec = agent.spec
        return {
            "id": agent.id,
            "agent_line_id": agent.line_id,
            "slug": agent.slug.value,
            "model": f"{agent.slug}@{agent.version}",
            "name": spec.name,
            "description": spec.description,
            "avatar_url": spec.avatar_url,
            "type": spec.agent_type,
            "status": agent.status.value,
            "version_number": agent.version,
            "version_type": spec.version_type.value,
            "template_id": spec.template.id,
            "template_version_id": spec.template.version,
            "template_config": dict(spec.config),
            "llm_config_id": spec.model,
            "owner_id": agent.owner_id,
            "author_id": agent.author_id,
            "reviewer_id": agent.reviewer_id,
            "rejection_reason": agent.rejection,
            "content_hash": spec.content_hash,
            "etag": agent.etag,
            "created_at": agent.created_at,
            "updated_at": agent.updated_at,
            "published_at": agent.published_at,
        }

    @classmethod
    def of(cls, agent: Agent) -> "AgentOut":
        return cls(**cls.fields(agent))


class ValidationResults(BaseModel):
    valid: bool = True
    warnings: list[str] = []


class AgentChanged(AgentOut):
    """What the platform's interface answers to a change, and the agent as it is now."""

    success: bool = True
    agent_id: str
    message: str
    validation_results: ValidationResults

    @classmethod
    def after(cls, changed: Changed, message: str) -> "AgentChanged":
        return cls(
            **cls.fields(changed.agent),
            agent_id=changed.agent.id,
            message=message,
            validation_results=ValidationResults(warnings=list(changed.warnings)),
        )


class AgentDeleted(BaseModel):
    success: bool = True
    agent_id: str
    message: str


class AgentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AgentOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Agent]) -> "AgentList":
        return cls(
            data=[AgentOut.of(agent) for agent in page.items],
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )


class AuditOut(BaseModel):
    id: str
    at: datetime
    actor_id: str
    action: str
    agent_id: str
    version_number: str | None
    before_hash: str | None
    after_hash: str | None
    before_status: str | None
    after_status: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditOut":
        detail: Mapping[str, Any] = entry.detail
        return cls(
            id=entry.id,
            at=entry.at,
            actor_id=entry.actor_id,
            action=entry.action,
            agent_id=entry.agent_id,
            version_number=detail.get("version"),
            before_hash=entry.before_hash,
            after_hash=entry.after_hash,
            before_status=entry.before_status,
            after_status=entry.after_status,
            detail={key: value for key, value in detail.items() if key != "version"},
        )


class AuditList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AuditOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[AuditEntry]) -> "AuditList":
        return cls(
            data=[AuditOut.of(entry) for entry in page.items],
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )


class VersionRef(BaseModel):
    id: str
    version_number: str
    status: str


class FieldChangeOut(BaseModel):
    path: str
    label: str
    change: Literal["added", "removed", "changed"]
    before: Any
    after: Any
    lines: list[str] | None = Field(default=None, description="A unified diff of long texts.")


class DifferenceOut(BaseModel):
    from_: Annotated[VersionRef, Field(serialization_alias="from")]
    to: VersionRef
    changes: list[FieldChangeOut]

    @classmethod
    def of(cls, difference: Difference) -> "DifferenceOut":
        return cls(
            from_=_version(difference.before),
            to=_version(difference.after),
            changes=[
                FieldChangeOut(
                    path=each.path,
                    label=each.label,
                    change=each.change,
                    before=each.before,
                    after=each.after,
                    lines=list(each.lines) if each.lines is not None else None,
                )
                for each in difference.changes
            ],
        )


def _version(agent: Agent) -> VersionRef:
    return VersionRef(id=agent.id, version_number=agent.version, status=agent.status.value)
