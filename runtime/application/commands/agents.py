"""In all of them `agent` is an id, or what `model` accepts: `support`, `support@v2`, …"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.domain.services.templates import PlatformBlanks
from runtime.domain.value_objects.agents import VersionType
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import AgentId, LineId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """The content of a version as a caller writes it; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    avatar_url: str | None = None
    agent_type: str | None = None
    template_id: str | None = None
    template_version: str | None = None
    config: Mapping[str, object] | None = None
    blanks: PlatformBlanks = field(default_factory=PlatformBlanks)
    model: str | None = None
    version_type: VersionType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAgent:
    actor: Principal
    change: AgentChange
    """`name` and `template_id` are needed."""
    id: AgentId | None = None
    slug: str | None = None
    line_id: LineId | None = None
    """An existing line gets a new version; an unknown one is made under this id."""
    number: int | None = None
    owner_id: UserId | None = None
    submit: bool = False
    publish: bool = False
    """Submit and approve in the same transaction, for who may approve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleAgent:
    """Make an agent of what it is to do, and callable at once as far as the actor's rights go.

    Without a `template_id` the built-in template is chosen that fits: one that calls tools where
    there are any.
    """

    actor: Principal
    change: AgentChange
    slug: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAgent:
    actor: Principal
    agent: str
    change: AgentChange
    if_match: str | None = None
    replace_config: bool = True
    """False merges `config` into the present one, field by field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAgent:
    actor: Principal
    agent: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveAgent:
    actor: Principal
    agent: str
    if_match: str | None = None
    content_hash: str | None = None
    """Of what the reviewer read; something else by now is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectAgent:
    actor: Principal
    agent: str
    reason: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeAgent:
    actor: Principal
    agent: str
    reason: str = ""
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackAgent:
    """Publish an earlier version of the line again.

    The version is `to`; without it, `agent` itself where that is a superseded version, else the
    newest superseded version before it.
    """

    actor: Principal
    agent: str
    to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A draft with the content of `agent`, for another template version its config migrated."""

    actor: Principal
    agent: str
    change: AgentChange = field(default_factory=AgentChange)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAgent:
    actor: Principal
    agent: str
    if_match: str | None = None
