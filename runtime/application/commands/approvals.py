from dataclasses import dataclass

from runtime.domain.services.durability import Decision
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ApprovalId, RunId


@dataclass(frozen=True, slots=True)
class DecideApproval:
    actor: Principal
    run_id: RunId
    id: ApprovalId
    answer: Decision
    arguments_hash: str | None = None
    """Of the arguments that the actor saw; None: whatever they are."""
