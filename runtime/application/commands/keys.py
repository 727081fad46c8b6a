from dataclasses import dataclass
from datetime import timedelta

from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import KeyId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    actor: Principal
    name: str
    owner_id: UserId | None = None
    """None: the actor's own."""
    roles: frozenset[Role] = frozenset({Role.VIEWER})
    scopes: frozenset[KeyScope] | None = None
    """None: whatever the roles, and the actor's own key, allow."""
    lifetime: timedelta | None = None
    """None: until it is revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey:
    actor: Principal
    id: KeyId
