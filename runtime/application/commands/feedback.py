from dataclasses import dataclass

from runtime.domain.entities.feedback import Rating
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveFeedback:
    caller: Principal
    run_id: RunId
    rating: Rating
    comment: str | None = None
