from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import LineId, ProjectId, SessionId, UserId

MAX_PAIRS = 16
MAX_PAIR_KEY = 64
MAX_PAIR_VALUE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation: what its items are about. The items themselves are read by position."""

    id: SessionId
    project_id: ProjectId
    owner_id: UserId
    line_id: LineId | None = None
    """The agent that it was begun with under a name; None: begun as a conversation, with any."""
    name: str | None = None
    """The owner's own; unique among the owner's sessions with this agent."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
    revision: str = ""
    """Whose write its items are from: two reads with the same one saw the same items."""
    length: int = 0
    """The position of the next item."""
    summary: str = ""
    summarised: int = 0
    """Items before this position are in the summary."""


def checked_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Raises InvalidValue for more than OpenAI's conversations take."""
    if len(metadata) > MAX_PAIRS:
        raise InvalidValue(f"There may be {MAX_PAIRS} pairs at most.", param="metadata")
    for key, value in metadata.items():
        if len(key) > MAX_PAIR_KEY or len(value) > MAX_PAIR_VALUE:
            raise InvalidValue(
                f"A key has at most {MAX_PAIR_KEY} characters, a value {MAX_PAIR_VALUE}.",
                param="metadata",
            )
    return metadata
