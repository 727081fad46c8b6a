from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Row,
    ScalarSelect,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    false,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.errors import AgentExists, AgentNotFound, ConcurrentChange, NameTaken
from runtime.domain.repositories.agents import (
    AgentFilter,
    AgentLineRepository,
    AgentRepository,
)
from runtime.domain.value_objects.agents import (
    AgentSpec,
    AgentStatus,
    ModelReference,
    Slug,
    TemplateRef,
    VersionType,
    normalised,
)
from runtime.domain.value_objects.ids import AgentId, LineId, ProjectId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.secrets import SealedSecret
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position

agent_lines = Table(
    "agent_lines",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("slug", Key, nullable=False),
    Column("published_id", Key),
    Column("last_number", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("project_id", "slug"),
)
agents = Table(
    "agents",
    metadata,
    Column("id", Key, primary_key=True),
    Column("line_id", Key, ForeignKey("agent_lines.id"), nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("author_id", Key, nullable=False),
    Column("slug", Key, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("name", Words, nullable=False),
    Column("name_folded", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("avatar_url", Words),
    Column("agent_type", Words, nullable=False),
    Column("template_id", Words, nullable=False),
    Column("template_version", Words, nullable=False),
    Column("config", Json, nullable=False),
    Column("secrets", Json),
    Column("model", Words),
    Column("version_type", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("approved_hash", Words),
    Column("reviewer_id", Words),
    Column("rejection", Words),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("line_id", "number"),
    Index(None, "project_id", "slug", "number"),
    Index(None, "project_id", "created_at", "id"),
)
_CURSORS = Cursors("agents")
_LONGEST_FOLDED_NAME = 128 * 18 * 3
"""NFKC makes at most 18 characters of one, folding case at most 3."""

_PROJECT: ColumnElement[str] = bindparam("project", type_=Key)
_USER: ColumnElement[str] = bindparam("user", type_=Key)
_NAME: ColumnElement[str] = bindparam("name", type_=Key)
_OWN_OR_RELEASED = or_(
    agents.c.owner_id == _USER,
    and_(
        agents.c.status.in_([AgentStatus.PUBLISHED, AgentStatus.SUPERSEDED]),
        agents.c.version_type == VersionType.RELEASE,
    ),
)


def _has_part_in(user: ColumnElement[str] | UserId) -> ColumnElement[bool]:
    """Of a line: owns it, or a version in it."""
    version = select(agents.c.id).where(
        agents.c.line_id == agent_lines.c.id, agents.c.owner_id == user
    )
    return or_(agent_lines.c.owner_id == user, version.exists())


class _Statements:
    """What is asked for in every request, made once for those who see all and once for others."""

    def __init__(self, *shown: ColumnElement[bool]) -> None:
        self.agents = select(agents).where(agents.c.project_id == _PROJECT, *shown)
        self.by_id = self.agents.where(agents.c.id == bindparam("id"))
        self.by_version = self.agents.where(
            agents.c.slug == _NAME, agents.c.number == bindparam("number")
        )
        self.newest_draft = (
            self.agents.where(
                agents.c.slug == _NAME,
                agents.c.owner_id == _USER,
                agents.c.status.in_([AgentStatus.DRAFT, AgentStatus.SUBMITTED]),
            )
            .order_by(agents.c.number.desc())
            .limit(1)
        )
        self.published_or_by_id = (
            self.agents.where(agents.c.id.in_([_NAME, _published_id()]))
            .order_by(agents.c.id == _NAME)
            .limit(1)
        )
        self.published = (
            self.agents.join(agent_lines, agent_lines.c.published_id == agents.c.id)
            .where(agent_lines.c.project_id == _PROJECT)
            .order_by(agents.c.slug)
        )


def _published_id() -> ScalarSelect[str | None]:
    return (
        select(agent_lines.c.published_id)
        .where(agent_lines.c.project_id == _PROJECT, agent_lines.c.slug == _NAME)
        .scalar_subquery()
    )


_ALL = _Statements()
_SHOWN = _Statements(_OWN_OR_RELEASED)
_ALL_LINES = select(agent_lines).where(agent_lines.c.project_id == _PROJECT)
_OWN_LINES = _ALL_LINES.where(_has_part_in(_USER))


class SqlAgentRepository(SqlRepository, AgentRepository):
    @property
    def _statements(self) -> _Statements:
        return _ALL if self._scope.sees_all else _SHOWN

    def _bound(self, **values: object) -> dict[str, object]:
        return {"project": self._project, "user": self._scope.user_id, **values}

    async def add(self, agent: Agent) -> None:
        try:
            added = await self._insert(agents, _agent_values(agent))
        except IntegrityError as error:  # The line was removed meanwhile.
            raise ConcurrentChange(f"Agent line '{agent.slug}'") from error
        if not added:
            if await self._taken(agents, agent.id):
                raise AgentExists(agent.id)
            raise ConcurrentChange(f"Agent line '{agent.slug}'")
        self._seen.append(agent)

    async def get(self, id: AgentId) -> Agent:
        row = (await self._execute(self._statements.by_id, self._bound(id=id))).first()
        if row is None:
            raise AgentNotFound(id)
        agent = _to_agent(row)
        self._seen.append(agent)
        return agent

    async def find(self, reference: ModelReference) -> Agent | None:
        values = self._bound(name=reference.name)
        if reference.draft:
            statement = self._statements.newest_draft
        elif reference.version is not None:
            statement, values["number"] = self._statements.by_version, reference.version
        else:
            statement = self._statements.published_or_by_id
        row = (await self._execute(statement, values)).first()
        return None if row is None else _to_agent(row)

    async def save(self, agent: Agent) -> None:
        if not await self._update(agents, agent.id, agent.revision, _agent_values(agent)):
            raise ConcurrentChange(f"Agent '{agent.id}'")
        agent.revision += 1
        self._seen.append(agent)

    async def remove(self, agent: Agent) -> None:
        if not await self._delete(agents, agent.id, agent.revision):
            raise ConcurrentChange(f"Agent '{agent.id}'")
        self._seen.append(agent)

    async def page(self, where: AgentFilter, *, limit: int, after: str | None) -> Page[Agent]:
        query = self._statements.agents.where(*_conditions(where))
        query = query.order_by(agents.c.created_at.desc(), agents.c.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(tuple_(agents.c.created_at, agents.c.id) < _CURSORS.read(after))
        found = [_to_agent(row) for row in await self._execute(query, self._bound())]
        return _CURSORS.page(found, limit, lambda agent: Position(agent.created_at, agent.id))

    async def published(self) -> list[Agent]:
        rows = await self._execute(self._statements.published, self._bound())
        return [_to_agent(row) for row in rows]


class SqlAgentLineRepository(SqlRepository, AgentLineRepository):
    async def add(self, line: AgentLine) -> None:
        if not await self._insert(agent_lines, _line_values(line)):
            raise (
                AgentExists(line.id)
                if await self._taken(agent_lines, line.id)
                else NameTaken(line.slug)
            )
        self._seen.append(line)

    async def get(self, id: LineId) -> AgentLine:
        line = await self.find(id)
        if line is None:
            raise AgentNotFound(id)
        return line

    async def find(self, id: LineId) -> AgentLine | None:
        return await self._first(agent_lines.c.id == id)

    async def find_by_slug(self, slug: Slug) -> AgentLine | None:
        return await self._first(agent_lines.c.slug == slug.value)

    async def save(self, line: AgentLine) -> None:
        if not await self._update(agent_lines, line.id, line.revision, _line_values(line)):
            raise ConcurrentChange(f"Agent line '{line.slug}'")
        line.revision += 1
        self._seen.append(line)

    async def has_versions(self, id: LineId) -> bool:
        query = select(agents.c.id).where(
            agents.c.project_id == self._project, agents.c.line_id == id
        )
        return (await self._execute(query.limit(1))).first() is not None

    async def remove(self, line: AgentLine) -> None:
        try:
            removed = await self._delete(agent_lines, line.id, line.revision)
        except IntegrityError as error:  # It has a version still.
            raise ConcurrentChange(f"Agent line '{line.slug}'") from error
        if not removed:
            raise ConcurrentChange(f"Agent line '{line.slug}'")
        self._seen.append(line)

    def _written(self, table: Table) -> ColumnElement[bool]:
        return true() if self._scope.sees_all else _has_part_in(self._scope.user_id)

    def _removed(self, table: Table) -> ColumnElement[bool]:
        """Whoever removed the last version, perhaps not the line's owner, removes the line."""
        return true()

    async def _first(self, condition: ColumnElement[bool]) -> AgentLine | None:
        lines = _ALL_LINES if self._scope.sees_all else _OWN_LINES
        values = {"project": self._project, "user": self._scope.user_id}
        row = (await self._execute(lines.where(condition), values)).first()
        if row is None:
            return None
        line = _to_line(row)
        self._seen.append(line)
        return line


def _conditions(where: AgentFilter) -> list[ColumnElement[bool]]:
    columns = agents.c
    given: list[tuple[Column[Any], str | None]] = [
        (columns.status, where.status),
        (columns.template_id, where.template_id),
        (columns.owner_id, where.owner_id),
        (columns.line_id, where.line_id),
        (columns.slug, where.slug),
        (columns.agent_type, where.agent_type),
    ]
    conditions: list[ColumnElement[bool]] = [
        column == value for column, value in given if value is not None
    ]
    if where.name_contains is not None:
        part = folded(where.name_contains)
        # SQLite refuses patterns of more than 50,000 bytes.
        fits = len(part) <= _LONGEST_FOLDED_NAME
        conditions.append(columns.name_folded.contains(part, autoescape=True) if fits else false())
    return conditions


def folded(name: str) -> str:
    """Folded here and not by the database: SQLite folds ASCII only."""
    return normalised(name).casefold()


def _agent_values(agent: Agent) -> dict[str, object]:
    spec = agent.spec
    return {
        "id": agent.id,
        "line_id": agent.line_id,
        "project_id": agent.project_id,
        "owner_id": agent.owner_id,
        "author_id": agent.author_id,
        "slug": agent.slug.value,
        "number": agent.number,
        "name": spec.name,
        "name_folded": folded(spec.name),
        "description": spec.description,
        "avatar_url": spec.avatar_url,
        "agent_type": spec.agent_type,
        "template_id": spec.template.id,
        "template_version": spec.template.version,
        "config": spec.config,
        "secrets": {at: asdict(kept) for at, kept in spec.secrets.items()},
        "model": spec.model,
        "version_type": spec.version_type,
        "status": agent.status,
        "approved_hash": agent.approved_hash,
        "reviewer_id": agent.reviewer_id,
        "rejection": agent.rejection,
        "created_at": agent.created_at,
        "updated_at": agent.updated_at,
        "published_at": agent.published_at,
        "revision": agent.revision,
    }


def _to_agent(row: Row[Any]) -> Agent:
    return Agent(
        id=AgentId(row.id),
        line_id=LineId(row.line_id),
        slug=Slug(row.slug),
        number=row.number,
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        author_id=UserId(row.author_id),
        spec=AgentSpec(
            name=row.name,
            template=TemplateRef(row.template_id, row.template_version),
            config=row.config,
            secrets={at: SealedSecret(**kept) for at, kept in (row.secrets or {}).items()},
            model=row.model,
            description=row.description,
            avatar_url=row.avatar_url,
            agent_type=row.agent_type,
            version_type=VersionType(row.version_type),
        ),
        status=AgentStatus(row.status),
        approved_hash=row.approved_hash,
        reviewer_id=row.reviewer_id and UserId(row.reviewer_id),
        rejection=row.rejection,
        created_at=row.created_at,
        updated_at=row.updated_at,
        published_at=row.published_at,
        revision=row.revision,
    )


def _line_values(line: AgentLine) -> dict[str, object]:
    return {
        "id": line.id,
        "project_id": line.project_id,
        "owner_id": line.owner_id,
        "slug": line.slug.value,
        "published_id": line.published_id,
        "last_number": line.last_number,
        "created_at": line.created_at,
        "revision": line.revision,
    }


def _to_line(row: Row[Any]) -> AgentLine:
    return AgentLine(
        id=LineId(row.id),
        slug=Slug(row.slug),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        created_at=row.created_at,
        published_id=row.published_id and AgentId(row.published_id),
        last_number=row.last_number,
        revision=row.revision,
    )
