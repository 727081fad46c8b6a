from collections.abc import Mapping
from datetime import datetime

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.audit import AuditEntry
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.keys import ApiKey
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import AgentId, LineId, UserId, new_audit_id


class AuditTrail:
    """Looks at an agent before a command and again after it."""

    def __init__(self, agent: Agent, *, new: bool = False) -> None:
        self._agent = agent
        self._hash = None if new else agent.spec.content_hash
        self._status = None if new else agent.status.value

    def entry(
        self,
        action: str,
        actor: Principal,
        at: datetime,
        detail: Mapping[str, object] | None = None,
        *,
        gone: bool = False,
    ) -> AuditEntry:
        agent = self._agent
        return AuditEntry(
            id=new_audit_id(),
            at=at,
            actor_id=actor.user_id,
            action=action,
            agent_id=agent.id,
            line_id=agent.line_id,
            project_id=agent.project_id,
            owner_id=agent.owner_id,
            before_hash=self._hash,
            after_hash=None if gone else agent.spec.content_hash,
            before_status=self._status,
            after_status=None if gone else agent.status.value,
            detail={"version": agent.version, **(detail or {})},
        )


def key_entry(action: str, key: ApiKey, actor: Principal, at: datetime) -> AuditEntry:
    return AuditEntry(
        id=new_audit_id(),
        at=at,
        actor_id=actor.user_id,
        action=action,
        agent_id=AgentId(key.id),
        line_id=LineId(key.id),
        project_id=key.project_id,
        owner_id=key.owner_id,
        before_hash=None,
        after_hash=None,
        before_status=None,
        after_status=None,
        detail={
            "name": key.name,
            "prefix": key.prefix,
            "roles": sorted(key.roles),
            "scopes": None if key.scopes is None else sorted(key.scopes),
        },
    )


def approval_entry(approval: Approval, run: DurableRun, actor: Principal) -> AuditEntry:
    """In the trail of the agent whose run it is; the approval is decided."""
    assert approval.answer
    assert approval.decided_at
    return AuditEntry(
        id=new_audit_id(),
        at=approval.decided_at,
        actor_id=actor.user_id,
        action="decide_approval",
        agent_id=run.agent_id,
        line_id=run.line_id,
        project_id=run.project_id,
        owner_id=run.owner_id,
        before_hash=None,
        after_hash=None,
        before_status=None,
        after_status=None,
        detail={
            "run": run.id,
            "approval": approval.id,
            "kind": approval.kind,
            "tool": approval.tool,
            "arguments_hash": approval.arguments_hash,
            "decision": approval.answer.decision,
            "reason": approval.answer.reason,
        },
    )


def rule_entry(
    action: str,
    subject: str,
    owner: UserId,
    actor: Principal,
    at: datetime,
    detail: Mapping[str, object],
) -> AuditEntry:
    """Of a limit or a price; `subject` is the key, line, project or model that it is for."""
    return AuditEntry(
        id=new_audit_id(),
        at=at,
        actor_id=actor.user_id,
        action=action,
        agent_id=AgentId(subject),
        line_id=LineId(subject),
        project_id=actor.project_id,
        owner_id=owner,
        before_hash=None,
        after_hash=None,
        before_status=None,
        after_status=None,
        detail=detail,
    )
