"""What a run waits for a person to decide."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from runtime.domain.entities.durable import DurableRun
from runtime.domain.errors import Forbidden, InvalidValue
from runtime.domain.events.runs import ApprovalDecided, ApprovalRequested
from runtime.domain.services.durability import ApprovalKind, ApprovalRequest, Decision
from runtime.domain.services.tools import Approver
from runtime.domain.value_objects.identity import KeyScope, Principal, Role, Scope
from runtime.domain.value_objects.ids import (
    ApprovalId,
    ProjectId,
    RunId,
    UserId,
    new_approval_id,
)
from runtime.domain.value_objects.tool_arguments import canonical, fingerprint, keepable

MAX_REASON = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question of a run, and its answer. It is decided once."""

    id: ApprovalId
    run_id: RunId
    project_id: ProjectId
    owner_id: UserId
    """The run's owner."""
    kind: ApprovalKind
    key: str
    """What the run finds the answer by; no other question of the run has it."""
    call_id: str
    tool: str
    arguments: str
    """Canonical JSON; empty where no tool is to be called."""
    value: Any
    """What a graph's `interrupt` says: JSON."""
    approver: Approver
    requested_at: datetime
    answer: Decision | None = None
    decided_by: UserId | None = None
    decided_at: datetime | None = None

    @classmethod
    def asked(cls, run: DurableRun, request: ApprovalRequest, at: datetime) -> "Approval":
        return cls(
            id=new_approval_id(),
            run_id=run.id,
            project_id=run.project_id,
            owner_id=run.owner_id,
            kind=request.kind,
            key=request.key,
            call_id=request.call_id,
            tool=keepable(request.tool),
            arguments=canonical(request.arguments) if request.tool else "",
            value=request.value,
            approver=request.approver,
            requested_at=at,
        )

    @property
    def scope(self) -> Scope:
        """The run's owner's."""
        return Scope(self.project_id, self.owner_id)

    @property
    def arguments_hash(self) -> str | None:
        return fingerprint(self.arguments) if self.arguments else None

    @property
    def request_event(self) -> ApprovalRequested:
        return ApprovalRequested(
            self.id, self.kind, self.call_id, self.tool, self.arguments, self.value
        )

    @property
    def decision_event(self) -> ApprovalDecided:
        assert self.answer
        return ApprovalDecided(
            self.id, self.answer.decision, self.answer.decided_by, self.answer.reason
        )

    def require_decider(self, actor: Principal) -> None:
        """Raises Forbidden. The actor sees the approval."""
        actor.require_scope(KeyScope.MODELS)
        if self.approver != "reviewer":
            return
        actor.require_scope(KeyScope.REVIEW)
        actor.require(Role.REVIEWER, f"decide on a call of '{self.tool}'")
        if actor.user_id == self.owner_id and not actor.publishes_alone:
            raise Forbidden(f"A call of '{self.tool}' is decided on by somebody else.")

    def decided(self, answer: Decision, by: UserId, at: datetime) -> "Approval":
        """Raises InvalidValue for an answer to another kind of question."""
        self._check(answer)
        answer = replace(answer, decided_by=by)
        return replace(self, answer=answer, decided_by=by, decided_at=at)

    def _check(self, answer: Decision) -> None:
        if len(answer.reason) > MAX_REASON:
            raise InvalidValue(f"It has at most {MAX_REASON} characters.", param="reason")
        edits_arguments = self.kind == "tool" and answer.decision == "edit"
        if edits_arguments != (answer.arguments is not None):
            raise InvalidValue(
                "`arguments` go with `edit`, for a call that was not made yet.", param="arguments"
            )
        if answer.value is not None and (self.kind == "tool" or answer.decision == "reject"):
            raise InvalidValue("There is no use for a `value` here.", param="value")
        if self.kind == "outcome_unknown":
            gives = answer.decision == "edit"
            if gives != (answer.value is not None):
                raise InvalidValue("`edit` says in `value` what the call gave.", param="value")
