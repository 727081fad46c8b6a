"""What the author of a generator mode needs; see docs/streaming.md, "Write a mode".

The names here change only compatibly within a major version, wherever they live.
"""

from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.feed import Feed
from runtime.application.services.generation.modes import Combinator, Single
from runtime.application.services.generation.sources import Batch, Source, Sourced, Stream
from runtime.domain.events.runs import (
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
)

__all__ = [
    "Batch",
    "Combinator",
    "Feed",
    "ModeConfig",
    "ReasoningDelta",
    "RunCancelled",
    "RunCompleted",
    "RunEvent",
    "RunFailed",
    "Single",
    "Source",
    "Sourced",
    "Stream",
    "TextDelta",
]
