from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId

MAX_COMMENT = 4_000


class Rating(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody thinks of a run's answer. A later opinion takes the earlier one's place.

    Raises InvalidValue.
    """

    run_id: RunId
    project_id: ProjectId
    owner_id: UserId
    """Whose opinion it is; the run may be somebody else's."""
    rating: Rating
    comment: str | None
    at: datetime

    def __post_init__(self) -> None:
        if self.comment is not None and len(self.comment) > MAX_COMMENT:
            raise InvalidValue(f"It has at most {MAX_COMMENT} characters.", param="comment")
