from dataclasses import dataclass
from typing import Protocol

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.value_objects.agents import AgentStatus, ModelReference, Slug
from runtime.domain.value_objects.ids import AgentId, LineId, UserId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """Every field that is set must match."""

    status: AgentStatus | None = None
    template_id: str | None = None
    owner_id: UserId | None = None
    line_id: LineId | None = None
    slug: str | None = None
    agent_type: str | None = None
    name_contains: str | None = None
    """Case-insensitive."""


class AgentRepository(Protocol):
    """Agent versions that the unit of work's scope shows.

    Without `sees_all` these are one's own and the released ones: published or superseded, and no
    betas; only one's own are written.
    """

    async def add(self, agent: Agent) -> None:
        """Raises AgentExists, for an id taken in any project, or ConcurrentChange when the line
        got this version number meanwhile, or is gone: the store decides, not a read before the
        write."""

    async def get(self, id: AgentId) -> Agent:
        """Raises AgentNotFound."""

    async def find(self, reference: ModelReference) -> Agent | None:
        """The version that `model` names: a slug's published one, an exact version, the newest
        draft (or submitted version) of the scope's user, or an id. Whether it may be called is
        not asked here. A slug wins over an id spelled the same."""

    async def save(self, agent: Agent) -> None:
        """Store the state and count `revision` up.

        Raises ConcurrentChange when the stored revision is not the one that was read.
        """

    async def remove(self, agent: Agent) -> None:
        """Raises ConcurrentChange."""

    async def page(self, where: AgentFilter, *, limit: int, after: str | None) -> Page[Agent]:
        """Newest first. Raises InvalidValue for a cursor that is none of this list's."""

    async def published(self) -> list[Agent]:
        """Every published version, by slug."""


class AgentLineRepository(Protocol):
    """Agent lines; without `sees_all`, those that one owns or has a version in."""

    async def add(self, line: AgentLine) -> None:
        """Raises NameTaken, or AgentExists for a line id taken in any project."""

    async def get(self, id: LineId) -> AgentLine:
        """Raises AgentNotFound."""

    async def find(self, id: LineId) -> AgentLine | None: ...

    async def find_by_slug(self, slug: Slug) -> AgentLine | None: ...

    async def save(self, line: AgentLine) -> None:
        """Raises ConcurrentChange when the stored revision is not the one that was read."""

    async def has_versions(self, id: LineId) -> bool:
        """Whether any is left, be it one that the scope does not show."""

    async def remove(self, line: AgentLine) -> None:
        """Raises ConcurrentChange, also for a line that has a version (again)."""
