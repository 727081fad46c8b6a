"""Commands about runs that go on from what others left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.domain.value_objects.chat import Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True)
class ResumeRun:
    """From where one that failed or was cancelled had got."""

    actor: Principal
    id: RunId


@dataclass(frozen=True, slots=True)
class ForkRun:
    """From one of its checkpoints: as it is, with other values, or with another turn."""

    actor: Principal
    id: RunId
    checkpoint_id: str
    messages: Sequence[Message] | None = None
    values: Mapping[str, Any] | None = None
