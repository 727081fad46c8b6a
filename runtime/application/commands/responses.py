from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.domain.value_objects.chat import GenerationOptions
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ResponseId
from runtime.domain.value_objects.items import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an agent is to answer."""

    input: Sequence[Item]
    instructions: str | None = None
    """Of this response alone: those that follow on it do not inherit them."""
    previous_id: ResponseId | None = None
    conversation: str | None = None
    truncate: bool = False
    """Drop the oldest messages where there are too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResponse:
    caller: Principal
    model: str
    asked: Asked
    options: GenerationOptions = field(default_factory=GenerationOptions)
    stream: bool = False
    store: bool = True
    background: bool = False
    """The run goes on without its caller. Needs `store`."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    """See `Response.settings`."""


@dataclass(frozen=True, slots=True)
class CancelResponse:
    actor: Principal
    id: ResponseId


@dataclass(frozen=True, slots=True)
class DeleteResponse:
    actor: Principal
    id: ResponseId
