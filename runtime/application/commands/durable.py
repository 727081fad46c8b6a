"""Commands about durable runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWebhook:
    """Where the end of this run is told."""

    url: str
    secret: str | None = None
    """`whsec_…`, which it is signed with; None: it is not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """Order a run that outlives its caller and its process."""

    caller: Principal
    model: str
    messages: Sequence[Message]
    options: GenerationOptions = field(default_factory=GenerationOptions)
    session: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    priority: int = 0
    not_before: datetime | None = None
    deadline: datetime | None = None
    webhook: RunWebhook | None = None


@dataclass(frozen=True, slots=True)
class CancelRun:
    actor: Principal
    id: RunId


@dataclass(frozen=True, slots=True)
class RetryRun:
    """Its order once more, from the start."""

    actor: Principal
    id: RunId
