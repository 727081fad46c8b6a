from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from runtime.domain.value_objects.ids import RunId

CallStatus = Literal["asked", "started", "success", "error"]
"""asked: it waits for a person's word. started: it goes on, or nobody knows how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A call of a tool by a durable run, as it is on record."""

    run_id: RunId
    call_id: str
    step: str
    name: str
    arguments: str
    """Canonical JSON, as the model asked for it."""
    status: CallStatus
    output: str | None
    """Its first characters; None before it has ended."""
    attempt: int
    """The one that last began to make it; 0: of the run that this one goes on from."""
    started_at: datetime
    duration_ms: float | None
