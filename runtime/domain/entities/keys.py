from dataclasses import dataclass, field
from datetime import datetime

from runtime.domain.events.base import Event
from runtime.domain.events.keys import KeyCreated, KeyRevoked
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import KeyId, ProjectId, UserId


@dataclass(kw_only=True, eq=False)
class ApiKey:
    """A credential of its owner. The secret itself is nowhere, only what checks it."""

    id: KeyId
    prefix: str
    """The part of the key that finds it; not secret."""
    digest: str
    name: str
    project_id: ProjectId
    owner_id: UserId
    roles: frozenset[Role]
    scopes: frozenset[KeyScope] | None
    """None: whatever the roles allow."""
    created_at: datetime
    created_by: UserId
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Coarse: written now and then, never per request."""
    events: list[Event] = field(default_factory=list, repr=False)

    @classmethod
    def create(
        cls,
        id: KeyId,
        *,
        prefix: str,
        digest: str,
        name: str,
        owner: Principal,
        by: UserId,
        at: datetime,
        expires_at: datetime | None,
    ) -> "ApiKey":
        return cls(
            id=id,
            prefix=prefix,
            digest=digest,
            name=name,
            project_id=owner.project_id,
            owner_id=owner.user_id,
            roles=owner.roles,
            scopes=owner.limited_to,
            created_at=at,
            created_by=by,
            expires_at=expires_at,
            events=[KeyCreated(id)],
        )

    def live_at(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    def revoke(self, at: datetime) -> None:
        """Again is no error: who revokes wants it gone."""
        if self.revoked_at is None:
            self.revoked_at = at
        self.events.append(KeyRevoked(self.id))

    @property
    def principal(self) -> Principal:
        return Principal(
            self.owner_id,
            self.project_id,
            self.roles,
            limited_to=self.scopes,
            key_id=self.id,
        )
