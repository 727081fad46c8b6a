from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.value_objects.ids import AgentId, AuditId, LineId, ProjectId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to which agent version, or to which API key: that one's id then stands for both
    the version and the line. Written in the command's transaction, kept for good."""

    id: AuditId
    at: datetime
    actor_id: UserId
    action: str
    """The command's verb: create, update, submit, approve, reject, revoke, rollback, delete; for
    keys create_key and revoke_key."""
    agent_id: AgentId
    line_id: LineId
    project_id: ProjectId
    owner_id: UserId
    before_hash: str | None
    """Content hash before and after; None where there was, or is, no content."""
    after_hash: str | None
    before_status: str | None
    after_status: str | None
    detail: Mapping[str, object]
