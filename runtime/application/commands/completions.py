from collections.abc import Mapping
from dataclasses import dataclass

from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import CompletionId


@dataclass(frozen=True, slots=True)
class RelabelCompletion:
    actor: Principal
    id: CompletionId
    metadata: Mapping[str, object]
    """In place of all that was there."""


@dataclass(frozen=True, slots=True)
class DeleteCompletion:
    actor: Principal
    id: CompletionId
