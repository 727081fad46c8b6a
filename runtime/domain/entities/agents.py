from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from runtime.domain.errors import Forbidden, TransitionRefused, VersionExists
from runtime.domain.events.agents import (
    AgentCreated,
    AgentDeleted,
    AgentPublished,
    AgentRejected,
    AgentRevoked,
    AgentSubmitted,
    AgentSuperseded,
    AgentUpdated,
)
from runtime.domain.events.base import Event
from runtime.domain.value_objects.agents import AgentSpec, AgentStatus, Slug, VersionType
from runtime.domain.value_objects.identity import Principal, Role
from runtime.domain.value_objects.ids import AgentId, LineId, ProjectId, UserId

S = AgentStatus


@dataclass(kw_only=True, eq=False)
class Agent:
    """One version of an agent line: a template with its blanks filled, on its way to callers."""

    id: AgentId
    line_id: LineId
    slug: Slug
    number: int
    project_id: ProjectId
    owner_id: UserId
    author_id: UserId
    """Who wrote the content as it stands; a reviewer is somebody else."""
    spec: AgentSpec
    status: AgentStatus = S.DRAFT
    approved_hash: str | None = None
    """Content hash that the reviewer saw."""
    reviewer_id: UserId | None = None
    rejection: str | None = None
    """Why the last review sent it back."""
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None = None
    revision: int = 1
    """Counts saved states; an ETag is made of it."""
    events: list[Event] = field(default_factory=list, repr=False)

    @property
    def version(self) -> str:
        return f"v{self.number}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}-{self.spec.content_hash[:12]}"'

    def edit(self, spec: AgentSpec, by: Principal, at: datetime) -> None:
        """A submitted agent that is edited leaves the review: nobody approves what they can't see.

        Raises TransitionRefused.
        """
        if self.status not in (S.DRAFT, S.SUBMITTED):
            self._refuse(
                "edited",
                "its content is what was reviewed. Make a new version with "
                "POST /v1/agents/{id}/versions",
            )
        self.spec = spec
        self.author_id = by.user_id
        self.status = S.DRAFT
        self._touch(at, AgentUpdated(self.id, self.line_id))

    def submit(self, at: datetime) -> None:
        if self.status is not S.DRAFT:
            self._refuse("submitted", "only a draft goes into review")
        self.status = S.SUBMITTED
        self.rejection = None
        self._touch(at, AgentSubmitted(self.id, self.line_id))

    def approve(self, by: Principal, at: datetime) -> None:
        """Raises TransitionRefused; Forbidden when the author reviews their own work."""
        if self.status is not S.SUBMITTED:
            self._refuse("approved", "submit it for review first")
        by.require(Role.REVIEWER, "approve an agent")
        if by.user_id == self.author_id and not by.may_self_approve:
            raise Forbidden("A reviewer is somebody other than the author.")
        self.reviewer_id = by.user_id
        self.approved_hash = self.spec.content_hash
        self._publish(at)

    def reject(self, by: Principal, reason: str, at: datetime) -> None:
        if self.status is not S.SUBMITTED:
            self._refuse("rejected", "it is not in review")
        by.require(Role.REVIEWER, "reject an agent")
        self.status = S.DRAFT
        self.reviewer_id = by.user_id
        self.rejection = reason
        self._touch(at, AgentRejected(self.id, self.line_id, reason))

    def revoke(self, by: Principal, at: datetime) -> None:
        if self.status not in (S.PUBLISHED, S.SUPERSEDED):
            self._refuse("revoked", "it was never published, or is revoked already")
        by.require(Role.REVIEWER, "revoke an agent")
        self.status = S.REVOKED
        self._touch(at, AgentRevoked(self.id, self.line_id))

    def supersede(self, at: datetime) -> None:
        self.status = S.SUPERSEDED
        self._touch(at, AgentSuperseded(self.id, self.line_id))

    def restore(self, by: Principal, at: datetime) -> None:
        """Publish again what a later version superseded."""
        if self.status is not S.SUPERSEDED:
            self._refuse("rolled back to", "only a superseded version can be published again")
        by.require(Role.REVIEWER, "roll an agent back")
        self._publish(at)

    def delete(self, at: datetime) -> None:
        self._touch(at, AgentDeleted(self.id, self.line_id))

    def require_editor(self, actor: Principal) -> None:
        """Raises Forbidden. That the actor sees it is settled before."""
        if actor.user_id != self.owner_id and not actor.has(Role.ADMIN):
            raise Forbidden("Only the agent's owner changes it.")

    def callable_by(self, caller: Principal, *, exact: bool) -> bool:
        """Whether `model` may resolve to this version.

        `exact`: the caller named the version, not just the line.
        """
        owner = caller.user_id == self.owner_id
        if self.spec.version_type is VersionType.BETA and not owner:
            return False
        match self.status:
            case S.PUBLISHED:
                return True
            case S.SUPERSEDED:
                return exact
            case S.SUBMITTED:
                return exact and (owner or caller.has(Role.REVIEWER))
            case S.DRAFT:
                return exact and owner
            case S.REVOKED:
                return False

    def _publish(self, at: datetime) -> None:
        self.status = S.PUBLISHED
        self.published_at = at
        self._touch(at, AgentPublished(self.id, self.line_id))

    def _touch(self, at: datetime, event: Event) -> None:
        self.updated_at = at
        self.events.append(event)

    def _refuse(self, action: str, hint: str) -> NoReturn:
        raise TransitionRefused(action, self.status, f"{hint}.")


@dataclass(kw_only=True, eq=False)
class AgentLine:
    """All versions of one agent; at most one of them is published."""

    id: LineId
    slug: Slug
    project_id: ProjectId
    owner_id: UserId
    created_at: datetime
    published_id: AgentId | None = None
    last_number: int = 0
    revision: int = 1
    events: list[Event] = field(default_factory=list, repr=False)

    def new_version(
        self,
        id: AgentId,
        spec: AgentSpec,
        *,
        owner: UserId,
        author: UserId,
        at: datetime,
        number: int | None = None,
    ) -> Agent:
        """Raises VersionExists when `number` is not after every version so far."""
        if number is not None and number <= self.last_number:
            raise VersionExists(number, self.last_number)
        self.last_number = number or self.last_number + 1
        return Agent(
            id=id,
            line_id=self.id,
            slug=self.slug,
            number=self.last_number,
            project_id=self.project_id,
            owner_id=owner,
            author_id=author,
            spec=spec,
            created_at=at,
            updated_at=at,
            events=[AgentCreated(id, self.id)],
        )
