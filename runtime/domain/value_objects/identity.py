"""Who acts, and what their work is limited to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runtime.domain.errors import Forbidden
from runtime.domain.value_objects.ids import KeyId, ProjectId, UserId

DEFAULT_PROJECT = ProjectId("default")
LOCAL_USER = UserId("local")


class Role(StrEnum):
    VIEWER = "viewer"
    """What everybody has who is known at all."""
    EDITOR = "editor"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class KeyScope(StrEnum):
    """What an API key may be narrowed to, within what its roles allow."""

    MODELS = "models"
    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"
    REVIEW = "review"
    RUNS_READ = "runs:read"
    KEYS = "keys"
    PROVIDERS = "providers"
    WEBHOOKS = "webhooks"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that a unit of work sees: every statement of its repositories is bound to it."""

    project_id: ProjectId
    user_id: UserId
    sees_all: bool = False
    """Agents of every owner in the project, and their trails; else one's own and what is
    released."""
    administers: bool = False
    """Runs and keys of every owner in the project; else one's own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. Every command and query carries one."""

    user_id: UserId
    project_id: ProjectId = DEFAULT_PROJECT
    roles: frozenset[Role] = frozenset({Role.VIEWER})
    may_self_approve: bool = False
    """For the local admin, who has nobody else to ask, and the platform, whose one token stands
    for authors and reviewers alike: it manages people and their reviews itself."""
    limited_to: frozenset[KeyScope] | None = None
    """None: whatever the roles allow."""
    key_id: KeyId | None = None
    """Of the API key that was shown; None for other credentials."""
    claims: Mapping[str, object] = field(default_factory=dict, compare=False)
    """Of the caller's JWT, for templates and tools."""

    @property
    def scope(self) -> Scope:
        return Scope(
            self.project_id,
            self.user_id,
            sees_all=self.has(Role.REVIEWER),
            administers=self.has(Role.ADMIN),
        )

    def has(self, role: Role) -> bool:
        return role is Role.VIEWER or role in self.roles or Role.ADMIN in self.roles

    @property
    def publishes_alone(self) -> bool:
        """Whether what they make needs nobody else's eyes."""
        reviews = self.limited_to is None or KeyScope.REVIEW in self.limited_to
        return self.may_self_approve and self.has(Role.REVIEWER) and reviews

    def require(self, role: Role, to: str) -> None:
        """Raises Forbidden."""
        if not self.has(role):
            raise Forbidden(f"The role '{role}' is needed to {to}.")

    def require_scope(self, scope: KeyScope) -> None:
        """Raises Forbidden."""
        if self.limited_to is not None and scope not in self.limited_to:
            raise Forbidden(f"This key is not for that: it lacks the scope '{scope}'.")

    def acting_for(self, user: UserId | None) -> "Principal":
        """The same rights in the name of `user`: a platform calls for its own people.

        Only an admin may; for anybody else the name is a label, not an identity.
        """
        if user is None or Role.ADMIN not in self.roles:
            return self
        return replace(self, user_id=user, claims={})


LOCAL_ADMIN = Principal(LOCAL_USER, roles=frozenset({Role.ADMIN}), may_self_approve=True)
PLATFORM = Principal(UserId("platform"), roles=frozenset({Role.ADMIN}), may_self_approve=True)
