from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.ids import CompletionId, ProjectId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletion:
    """An answer that its caller asked to keep. What was asked is kept beside it."""

    id: CompletionId
    project_id: ProjectId
    owner_id: UserId
    model: str
    """As the caller named it."""
    fingerprint: str
    """Of the agent that answered."""
    created_at: datetime
    labels: Mapping[str, str]
    """OpenAI's `metadata`."""
    choices: Sequence[Answer]
    """Without their events."""
