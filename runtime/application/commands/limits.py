from dataclasses import dataclass

from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.limits import Limits, LimitScope, Price


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits:
    actor: Principal
    scope: LimitScope
    id: str
    """Of a key, a project, or an agent: then its slug, its line's id or that of a version."""
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLimits:
    actor: Principal
    scope: LimitScope
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrice:
    actor: Principal
    model: str
    """`provider/name`; a `*` stands for anything."""
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePrice:
    actor: Principal
    model: str
