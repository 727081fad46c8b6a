from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from runtime.domain.entities.memories import MemoryScope
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import MemoryId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    caller: Principal
    user: UserId | None
    """Whose it is to be, where an admin acts for somebody; None: the caller's."""
    scope: MemoryScope
    agent: str | None
    """As callers name it."""
    key: str | None
    text: str
    value: object
    tags: Sequence[str]
    lifetime: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMemory:
    caller: Principal
    id: MemoryId
    fields: Mapping[str, object]
    """Of `text`, `value`, `tags`, `lifetime`: those to be set."""
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    caller: Principal
    id: MemoryId


@dataclass(frozen=True, slots=True)
class ForgetAll:
    caller: Principal
    user: UserId | None = None
    """As of `Remember`."""
