"""Who acts, and what their work is limited to."""

from dataclasses import dataclass
from enum import StrEnum

from runtime.domain.errors import Forbidden
from runtime.domain.value_objects.ids import ProjectId, UserId

DEFAULT_PROJECT = ProjectId("default")
LOCAL_USER = UserId("local")


class Role(StrEnum):
    VIEWER = "viewer"
    EDITOR = "editor"
    REVIEWER = "reviewer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. Every command and query carries one."""

    user_id: UserId
    project_id: ProjectId = DEFAULT_PROJECT
    roles: frozenset[Role] = frozenset({Role.VIEWER})
    may_self_approve: bool = False
    """For the local admin, who has nobody else to ask, and the platform, whose one token stands
    for authors and reviewers alike: it manages people and their reviews itself."""

    def has(self, role: Role) -> bool:
        return role in self.roles or Role.ADMIN in self.roles

    def require(self, role: Role, to: str) -> None:
        """Raises Forbidden."""
        if not self.has(role):
            raise Forbidden(f"The role '{role}' is needed to {to}.")

    def acting_for(self, user: UserId | None) -> "Principal":
        """The same rights in the name of `user`: a platform calls for its own people.

        Only an admin may; for anybody else the name is a label, not an identity.
        """
        if user is None or Role.ADMIN not in self.roles:
            return self
        return Principal(user, self.project_id, self.roles, self.may_self_approve)


LOCAL_ADMIN = Principal(LOCAL_USER, roles=frozenset({Role.ADMIN}), may_self_approve=True)
PLATFORM = Principal(UserId("platform"), roles=frozenset({Role.ADMIN}), may_self_approve=True)
