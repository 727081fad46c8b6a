"""In-memory stand-ins for the ports, held to the same contract tests as the real adapters."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from time import monotonic
from typing import Any, TypeVar

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.entities.approvals import Approval
from runtime.domain.entities.audit import AuditEntry
from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.feedback import Feedback
from runtime.domain.entities.keys import ApiKey
from runtime.domain.entities.limits import LimitRule, PriceRule, UsageDay, used_by
from runtime.domain.entities.memories import Fact
from runtime.domain.entities.providers import Provider
from runtime.domain.entities.responses import Response
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.entities.schedules import Schedule, ScheduleTick
from runtime.domain.entities.sessions import Session
from runtime.domain.entities.webhooks import Webhook
from runtime.domain.errors import (
    AgentExists,
    AgentNotFound,
    ConcurrentChange,
    ConversationNotFound,
    InvalidValue,
    ItemNotFound,
    KeyNotFound,
    NameTaken,
    RunNotFound,
)
from runtime.domain.events.base import Event
from runtime.domain.repositories.agents import (
    AgentFilter,
    AgentLineRepository,
    AgentRepository,
)
from runtime.domain.repositories.approvals import ApprovalRepository
from runtime.domain.repositories.audit import AuditRepository
from runtime.domain.repositories.completions import CompletionRepository
from runtime.domain.repositories.durable import DurableRunRepository
from runtime.domain.repositories.feedback import FeedbackRepository
from runtime.domain.repositories.keys import ApiKeyRepository, KeyRing
from runtime.domain.repositories.limits import LimitRepository, PriceRepository, UsageRepository
from runtime.domain.repositories.memories import FactRepository
from runtime.domain.repositories.providers import ProviderRepository
from runtime.domain.repositories.responses import ResponseRepository, RunEventRepository
from runtime.domain.repositories.runs import RunFilter, RunLog, RunRepository, RunTotals
from runtime.domain.repositories.schedules import ScheduleRepository
from runtime.domain.repositories.sessions import (
    Addition,
    Operation,
    SessionHolds,
    SessionKey,
    SessionLog,
    SessionName,
    SessionRepository,
    TakeSession,
)
from runtime.domain.repositories.tool_calls import ToolCallRepository
from runtime.domain.repositories.webhooks import WebhookRepository
from runtime.domain.unit_of_work import Publish, UnitOfWork
from runtime.domain.value_objects.agents import AgentStatus, ModelReference, Slug, VersionType
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import (
    AgentId,
    ApprovalId,
    AuditId,
    CompletionId,
    ItemId,
    KeyId,
    LineId,
    MemoryId,
    ResponseId,
    RunId,
    ScheduleId,
    SessionId,
    WebhookId,
)
from runtime.domain.value_objects.items import AgentToolItem, Item, ReasoningItem
from runtime.domain.value_objects.limits import Subject
from runtime.domain.value_objects.memory import Placed
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.agents import folded
from runtime.infrastructure.repositories.base import MAX_KEY, storable
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.items import from_json, to_json
from runtime.infrastructure.repositories.runs import run_position
from tests.fakes_approvals import MemoryApprovalRepository
from tests.fakes_completions import Kept, MemoryCompletionRepository
from tests.fakes_durable_runs import MemoryDurableRunRepository
from tests.fakes_feedback import MemoryFeedbackRepository, Opinion
from tests.fakes_limits import (
    MemoryLimitRepository,
    MemoryPriceRepository,
    MemoryUsageRepository,
    add_usage,
)
from tests.fakes_memories import MemoryFactRepository
from tests.fakes_providers import MemoryProviderRepository
from tests.fakes_responses import (
    LoggedEvent,
    MemoryResponseRepository,
    MemoryRunEventRepository,
)
from tests.fakes_schedules import MemoryScheduleRepository
from tests.fakes_tools import Called, MemoryToolCallRepository
from tests.fakes_webhooks import MemoryWebhookRepository, Outbox, Queued

T = TypeVar("T")


# Storage


@dataclass
class Tables:
    lines: dict[LineId, AgentLine] = field(default_factory=dict)
    agents: dict[AgentId, Agent] = field(default_factory=dict)
    audit: dict[AuditId, AuditEntry] = field(default_factory=dict)
    runs: dict[RunId, Run] = field(default_factory=dict)
    durable: dict[RunId, DurableRun] = field(default_factory=dict)
    keys: dict[KeyId, ApiKey] = field(default_factory=dict)
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    session_items: dict[tuple[SessionId, int], Item] = field(default_factory=dict)
    holds: dict[SessionId, tuple[str, float]] = field(default_factory=dict)
    completions: dict[CompletionId, Kept] = field(default_factory=dict)
    feedback: dict[Opinion, Feedback] = field(default_factory=dict)
    responses: dict[ResponseId, Response] = field(default_factory=dict)
    run_events: dict[tuple[RunId, int], LoggedEvent] = field(default_factory=dict)
    limits: dict[Subject, LimitRule] = field(default_factory=dict)
    prices: dict[tuple[str, str], PriceRule] = field(default_factory=dict)
    usage: dict[tuple[Subject, date], UsageDay] = field(default_factory=dict)
    providers: dict[tuple[str, str], Provider] = field(default_factory=dict)
    schedules: dict[ScheduleId, Schedule] = field(default_factory=dict)
    ticks: dict[RunId, ScheduleTick] = field(default_factory=dict)
    tool_calls: dict[tuple[RunId, str], Called] = field(default_factory=dict)
    memories: dict[MemoryId, Fact] = field(default_factory=dict)
    approvals: dict[ApprovalId, Approval] = field(default_factory=dict)
    webhooks: dict[WebhookId, Webhook] = field(default_factory=dict)
    webhook_deliveries: dict[str, Queued] = field(default_factory=dict)

    def copy(self) -> "Tables":
        return Tables(*(dict(getattr(self, table.name)) for table in fields(self)))


class MemoryStore:
    """What is committed. One writer at a time, readers at any."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.writer = asyncio.Lock()


class MemoryTransaction:
    """Reads what is committed until its first write, then its own copy."""

    def __init__(self, store: MemoryStore, scope: Scope) -> None:
        self.scope = scope
        self.seen: list[Agent | AgentLine | ApiKey | LimitRule | PriceRule | Provider | Outbox] = []
        self._store = store
        self._own: Tables | None = None

    @property
    def tables(self) -> Tables:
        return self._store.tables if self._own is None else self._own

    async def writing(self) -> Tables:
        if self._own is None:
            await self._store.writer.acquire()
            self._own = self._store.tables.copy()
        return self._own

    def own(
        self,
        row: Agent
        | AgentLine
        | Approval
        | AuditEntry
        | ApiKey
        | Run
        | DurableRun
        | ChatCompletion
        | Response
        | Provider
        | Webhook
        | Schedule
        | ScheduleTick,
    ) -> None:
        if row.project_id != self.scope.project_id:
            raise ValueError(f"a row of project {row.project_id} in a unit of another one")
        if not self.scope.sees_all and not self.mine(row):
            raise ValueError(f"a row of {row.owner_id} in a unit of somebody else")

    def mine(
        self,
        row: Agent
        | AgentLine
        | Approval
        | AuditEntry
        | ApiKey
        | Run
        | DurableRun
        | Session
        | ChatCompletion
        | Response
        | Provider
        | Webhook
        | Schedule
        | ScheduleTick,
    ) -> bool:
        return row.owner_id == self.scope.user_id

    def commit(self) -> None:
        if self._own is not None:
            self._store.tables = self._own
            self.close()

    def close(self) -> None:
        if self._own is not None:
            self._own = None
            self._store.writer.release()

    def ours(self, rows: Iterable[T]) -> list[T]:
        ours = self.scope.project_id
        return [row for row in rows if getattr(row, "project_id") == ours]  # noqa: B009


class MemoryAgentRepository(AgentRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction

    async def add(self, agent: Agent) -> None:
        self._transaction.own(agent)
        row = _agent_copy(_checked(agent))
        tables = await self._transaction.writing()
        if agent.id in tables.agents:
            raise AgentExists(agent.id)
        numbers = {(other.line_id, other.number) for other in tables.agents.values()}
        if agent.line_id not in tables.lines or (agent.line_id, agent.number) in numbers:
            raise ConcurrentChange(f"Agent line '{agent.slug}'")
        tables.agents[agent.id] = row
        self._transaction.seen.append(agent)

    async def get(self, id: AgentId) -> Agent:
        found = self._where(lambda agent: agent.id == id)
        if not found:
            raise AgentNotFound(id)
        self._transaction.seen.append(found[0])
        return found[0]

    async def find(self, reference: ModelReference) -> Agent | None:
        name = reference.name
        if reference.draft:
            drafts = self._where(
                lambda agent: (
                    agent.slug.value == name
                    and self._transaction.mine(agent)
                    and agent.status in (AgentStatus.DRAFT, AgentStatus.SUBMITTED)
                )
            )
            return max(drafts, key=lambda agent: agent.number, default=None)
        if reference.version is not None:
            versions = self._where(
                lambda agent: agent.slug.value == name and agent.number == reference.version
            )
            return next(iter(versions), None)
        published = [agent for agent in await self.published() if agent.slug.value == name]
        return next(iter(published + self._where(lambda agent: agent.id == name)), None)

    async def save(self, agent: Agent) -> None:
        await self._check_state(agent)
        agent.revision += 1
        (await self._transaction.writing()).agents[agent.id] = _agent_copy(_checked(agent))
        self._transaction.seen.append(agent)

    async def remove(self, agent: Agent) -> None:
        await self._check_state(agent)
        del (await self._transaction.writing()).agents[agent.id]
        self._transaction.seen.append(agent)

    async def page(self, where: AgentFilter, *, limit: int, after: str | None) -> Page[Agent]:
        found = self._where(lambda agent: _matches(agent, where))
        return _page(Cursors("agents"), found, limit, after, _created)

    async def published(self) -> list[Agent]:
        pointers = {line.published_id for line in self._transaction.tables.lines.values()}
        found = self._where(lambda agent: agent.id in pointers)
        return sorted(found, key=lambda agent: agent.slug.value)

    def _where(self, condition: Callable[[Agent], bool]) -> list[Agent]:
        agents = self._transaction.ours(self._transaction.tables.agents.values())
        return [_agent_copy(agent) for agent in agents if condition(agent) and self._shown(agent)]

    def _shown(self, agent: Agent) -> bool:
        released = (
            agent.status in (AgentStatus.PUBLISHED, AgentStatus.SUPERSEDED)
            and agent.spec.version_type is VersionType.RELEASE
        )
        return self._transaction.scope.sees_all or released or self._transaction.mine(agent)

    async def _check_state(self, agent: Agent) -> None:
        everything = self._transaction.ours((await self._transaction.writing()).agents.values())
        sees_all, mine = self._transaction.scope.sees_all, self._transaction.mine
        rows = [row for row in everything if sees_all or mine(row)]
        if (agent.id, agent.revision) not in {(row.id, row.revision) for row in rows}:
            raise ConcurrentChange(f"Agent '{agent.id}'")


class MemoryAgentLineRepository(AgentLineRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction

    async def add(self, line: AgentLine) -> None:
        self._transaction.own(line)
        row = _line_copy(_checked(line))
        tables = await self._transaction.writing()
        if line.id in tables.lines:
            raise AgentExists(line.id)
        if line.slug in {other.slug for other in self._transaction.ours(tables.lines.values())}:
            raise NameTaken(line.slug)
        tables.lines[line.id] = row
        self._transaction.seen.append(line)

    async def get(self, id: LineId) -> AgentLine:
        line = await self.find(id)
        if line is None:
            raise AgentNotFound(id)
        return line

    async def find(self, id: LineId) -> AgentLine | None:
        return self._first(lambda line: line.id == id)

    async def find_by_slug(self, slug: Slug) -> AgentLine | None:
        return self._first(lambda line: line.slug == slug)

    async def save(self, line: AgentLine) -> None:
        tables = await self._check_state(line)
        line.revision += 1
        tables.lines[line.id] = _line_copy(_checked(line))
        self._transaction.seen.append(line)

    async def has_versions(self, id: LineId) -> bool:
        agents = self._transaction.ours(self._transaction.tables.agents.values())
        return id in {agent.line_id for agent in agents}

    async def remove(self, line: AgentLine) -> None:
        tables = await self._check_state(line, shown=False)
        if line.id in {agent.line_id for agent in tables.agents.values()}:
            raise ConcurrentChange(f"Agent line '{line.slug}'")
        del tables.lines[line.id]
        self._transaction.seen.append(line)

    def _first(self, condition: Callable[[AgentLine], bool]) -> AgentLine | None:
        lines = self._transaction.ours(self._transaction.tables.lines.values())
        found = next(
            (_line_copy(line) for line in lines if condition(line) and self._shown(line)), None
        )
        if found is not None:
            self._transaction.seen.append(found)
        return found

    def _shown(self, line: AgentLine) -> bool:
        if self._transaction.scope.sees_all or self._transaction.mine(line):
            return True
        agents = self._transaction.tables.agents.values()
        return any(line.id == agent.line_id and self._transaction.mine(agent) for agent in agents)

    async def _check_state(self, line: AgentLine, *, shown: bool = True) -> Tables:
        tables = await self._transaction.writing()
        lines = self._transaction.ours(tables.lines.values())
        rows = [row for row in lines if not shown or self._shown(row)]
        if (line.id, line.revision) not in {(row.id, row.revision) for row in rows}:
            raise ConcurrentChange(f"Agent line '{line.slug}'")
        return tables


class MemoryAuditRepository(AuditRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction

    async def add(self, entry: AuditEntry) -> None:
        self._transaction.own(entry)
        row = replace(_checked(entry), detail=_json_copy(entry.detail))
        (await self._transaction.writing()).audit[entry.id] = row

    async def of_line(self, id: LineId, *, limit: int, after: str | None) -> Page[AuditEntry]:
        entries = self._transaction.ours(self._transaction.tables.audit.values())
        sees_all, mine = self._transaction.scope.sees_all, self._transaction.mine
        found = [entry for entry in entries if entry.line_id == id and (sees_all or mine(entry))]
        return _page(
            Cursors(f"audit/{id}"), found, limit, after, lambda entry: Position(entry.at, entry.id)
        )


class MemoryRunRepository(RunRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction

    async def get(self, id: RunId) -> Run:
        for run in self._runs():
            if run.id == id:
                return run
        raise RunNotFound(id)

    async def page(
        self, where: RunFilter, *, limit: int, after: str | None
    ) -> Page[Run | DurableRun]:
        tables, scope = self._transaction.tables, self._transaction.scope
        durable = [
            run
            for run in self._transaction.ours(tables.durable.values())
            if not run.status.final and (scope.administers or self._transaction.mine(run))
        ]
        every: list[Run | DurableRun] = [*self._runs(), *durable]
        found = [
            run
            for run in every
            if where.agent_id in (None, run.agent_id)
            and where.status in (None, run.status)
            and where.session_id in (None, _session(run))
        ]
        return _page(Cursors("runs"), found, limit, after, run_position)

    async def record(self, run: Run) -> None:
        self._transaction.own(run)
        tables = await self._transaction.writing()
        if run.id not in tables.runs:
            row = replace(_checked(run), metadata=_json_copy(run.metadata))
            add_usage(tables, used_by([row]))
            tables.runs[run.id] = row

    async def totals(self) -> RunTotals:
        runs = self._runs()
        failed = sum(run.status is RunStatus.FAILED for run in runs)
        total_ms = sum(run.duration_ms for run in runs)
        return RunTotals(len(runs), failed, total_ms / len(runs) if runs else 0.0)

    def _runs(self) -> list[Run]:
        runs = self._transaction.ours(self._transaction.tables.runs.values())
        administers, mine = self._transaction.scope.administers, self._transaction.mine
        return [run for run in runs if administers or mine(run)]


def _session(run: Run | DurableRun) -> str | None:
    return run.session_id if isinstance(run, Run) else run.order.session


class MemoryApiKeyRepository(ApiKeyRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction

    async def add(self, key: ApiKey) -> None:
        self._transaction.own(key)
        row = replace(_checked(key), events=[])
        (await self._transaction.writing()).keys[key.id] = row
        self._transaction.seen.append(key)

    async def get(self, id: KeyId) -> ApiKey:
        for key in self._shown(self._transaction.tables):
            if key.id == id:
                return replace(key, events=[])
        raise KeyNotFound(id)

    async def save(self, key: ApiKey) -> None:
        tables = await self._transaction.writing()
        stored = {row.id: row for row in self._shown(tables)}.get(key.id)
        if stored is None:
            raise KeyNotFound(key.id)
        revoked_at = stored.revoked_at or key.revoked_at
        tables.keys[key.id] = replace(stored, revoked_at=revoked_at, events=[])
        self._transaction.seen.append(key)

    async def page(self, *, limit: int, after: str | None) -> Page[ApiKey]:
        found = [replace(key, events=[]) for key in self._shown(self._transaction.tables)]
        return _page(
            Cursors("keys"), found, limit, after, lambda key: Position(key.created_at, key.id)
        )

    def _shown(self, tables: Tables) -> list[ApiKey]:
        keys = self._transaction.ours(tables.keys.values())
        administers, mine = self._transaction.scope.administers, self._transaction.mine
        return [key for key in keys if administers or mine(key)]


class MemoryKeyRing(KeyRing):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def find(self, prefix: str) -> ApiKey | None:
        found = (key for key in self._store.tables.keys.values() if key.prefix == prefix)
        return next((replace(key, events=[]) for key in found), None)

    async def any_live(self, at: datetime) -> bool:
        return any(key.live_at(at) for key in self._store.tables.keys.values())

    async def note_uses(self, uses: Mapping[KeyId, datetime]) -> None:
        async with self._store.writer:
            tables = self._store.tables.copy()
            for id, at in uses.items():
                key = tables.keys.get(id)
                if key and (key.last_used_at is None or key.last_used_at < at):
                    tables.keys[id] = replace(key, last_used_at=at)
            self._store.tables = tables


class MemoryRunLog(RunLog):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def write(self, runs: Sequence[Run]) -> None:
        rows = [replace(_checked(run), metadata=_json_copy(run.metadata)) for run in runs]
        async with self._store.writer:
            tables = self._store.tables.copy()
            add_usage(tables, used_by(run for run in rows if run.id not in tables.runs))
            for run in rows:
                tables.runs.setdefault(run.id, run)
            self._store.tables = tables


class MemorySessionRepository(SessionRepository):
    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction
        self._scope = transaction.scope

    async def add(self, session: Session, holder: str | None = None, for_s: float = 0) -> bool:
        if not self._transaction.mine(session):
            raise ValueError("a session of somebody else")
        _checked(session)
        if len(session.name or "") > MAX_KEY:
            raise InvalidValue("An identifier is too long.", param="name")
        tables = await self._transaction.writing()
        if session.id in tables.sessions:
            return False
        if session.line_id and session.name:
            taken = await self.find(SessionName(session.line_id, session.name))
            if taken is not None:
                return False
        tables.sessions[session.id] = session
        if holder:
            tables.holds[session.id] = (holder, monotonic() + for_s)
        return True

    async def find(self, key: SessionKey) -> Session | None:
        return next(
            (
                session
                for session in self._transaction.ours(self._transaction.tables.sessions.values())
                if self._is(session, key)
            ),
            None,
        )

    async def get(self, id: SessionId) -> Session:
        session = await self.find(id)
        if session is None:
            raise ConversationNotFound(id)
        return session

    async def hold(self, key: SessionKey, holder: str, for_s: float) -> Session | None:
        tables = await self._transaction.writing()
        session = await self.find(key)
        if session is None:
            return None
        held_by, until = tables.holds.get(session.id, ("", 0.0))
        if until > monotonic() and held_by != holder:
            return None
        tables.holds[session.id] = (holder, monotonic() + for_s)
        return session

    async def write(self, session: Session, holder: str, addition: Addition, at: datetime) -> None:
        tables = await self._transaction.writing()
        stored = await self.find(session.id)
        if stored is None or tables.holds.get(session.id, ("", 0.0))[0] != holder:
            raise ConcurrentChange(f"Conversation '{session.id}'")
        del tables.holds[session.id]
        start = session.length if addition.cut is None else addition.cut
        for place in [place for place in tables.session_items if place[0] == session.id]:
            if place[1] >= start:
                del tables.session_items[place]
        for position, item in enumerate(addition.items, start):
            tables.session_items[session.id, position] = from_json(_json_copy(to_json(item)))
        told = addition.summary is not None
        tables.sessions[session.id] = replace(
            stored,
            revision=holder,
            updated_at=at,
            length=start + len(addition.items),
            summary=addition.summary or "" if told else session.summary,
            summarised=addition.summarised if told else session.summarised,
        )

    async def release(self, id: SessionId, holder: str) -> None:
        tables = await self._transaction.writing()
        if tables.holds.get(id, ("", 0.0))[0] == holder:
            del tables.holds[id]

    async def set_metadata(self, id: SessionId, metadata: Mapping[str, str], at: datetime) -> None:
        tables = await self._transaction.writing()
        session = await self.get(id)
        changed = replace(session, metadata=_json_copy(metadata), updated_at=at)
        tables.sessions[id] = changed

    async def remove(self, id: SessionId) -> None:
        tables = await self._transaction.writing()
        await self.get(id)
        _forget_sessions(tables, [id])

    async def latest(self, id: SessionId, limit: int | None, *, since: int = 0) -> Sequence[Placed]:
        read = [
            placed
            for placed in self._items(id)
            if placed.position >= since
            and not isinstance(placed.item, ReasoningItem | AgentToolItem)
        ]
        return read if limit is None else read[-limit:]

    async def item(self, id: SessionId, item: ItemId) -> Placed:
        for placed in self._items(id):
            if placed.item.id == item:
                return placed
        raise ItemNotFound(item)

    async def items(
        self, id: SessionId, *, limit: int, after: ItemId | None, newest_first: bool
    ) -> Sequence[Placed]:
        found = self._items(id)
        if newest_first:
            found.reverse()
        if after is not None:
            found = found[found.index(await self.item(id, after)) + 1 :]
        return found[:limit]

    async def remove_item(self, session: Session, holder: str, item: ItemId, at: datetime) -> None:
        placed = await self.item(session.id, item)
        await self.write(session, holder, Addition(()), at)
        del (await self._transaction.writing()).session_items[session.id, placed.position]

    def _items(self, id: SessionId) -> list[Placed]:
        tables = self._transaction.tables
        session = tables.sessions.get(id)
        if session is None or not self._is(session, id):
            return []
        places = sorted(place for place in tables.session_items if place[0] == id)
        return [Placed(place[1], tables.session_items[place]) for place in places]

    def _is(self, session: Session, key: SessionKey) -> bool:
        mine = self._transaction.mine(session)
        if isinstance(key, SessionName):
            return mine and (session.line_id, session.name) == (key.line_id, key.name)
        ours = session.project_id == self._scope.project_id
        return session.id == key and ours and (mine or self._scope.administers)


class MemorySessionLog(SessionLog):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def apply(self, operations: Sequence[Operation]) -> Sequence[object]:
        return [await self._one(each) for each in operations]

    async def _one(self, operation: Operation) -> object:
        transaction = MemoryTransaction(self._store, operation.scope)
        sessions = MemorySessionRepository(transaction)
        try:
            if isinstance(operation, TakeSession):
                taken = await self._take(sessions, operation)
                transaction.commit()
                return taken
            await sessions.write(
                operation.session, operation.holder, operation.addition, operation.at
            )
            transaction.commit()
            return True
        except ConcurrentChange:
            return False
        finally:
            transaction.close()

    async def _take(self, sessions: SessionRepository, take: TakeSession) -> object:
        found = await sessions.hold(take.key, take.holder, take.for_s)
        if found is not None or await sessions.find(take.key):
            return found
        if take.begin is None:
            return ConversationNotFound(take.key)
        return take.begin if await sessions.add(take.begin, take.holder, take.for_s) else None


class MemorySessionHolds(SessionHolds):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def renew(self, holders: Mapping[SessionId, str], for_s: float) -> None:
        async with self._store.writer:
            tables = self._store.tables.copy()
            for id, holder in holders.items():
                if tables.holds.get(id, ("", 0.0))[0] == holder:
                    tables.holds[id] = (holder, monotonic() + for_s)
            self._store.tables = tables

    async def prune(self, before: datetime) -> int:
        async with self._store.writer:
            tables = self._store.tables.copy()
            unused = [
                session.id
                for session in tables.sessions.values()
                if session.updated_at < before
                and tables.holds.get(session.id, ("", 0.0))[1] < monotonic()
            ]
            _forget_sessions(tables, unused)
            self._store.tables = tables
            return len(unused)


def _forget_sessions(tables: Tables, ids: Sequence[SessionId]) -> None:
    for id in ids:
        del tables.sessions[id]
        tables.holds.pop(id, None)
        for place in [place for place in tables.session_items if place[0] == id]:
            del tables.session_items[place]


class MemoryUnitOfWork(UnitOfWork):
    def __init__(self, transaction: MemoryTransaction, publish: Publish) -> None:
        self._transaction = transaction
        self._publish = publish
        self.agents: AgentRepository = MemoryAgentRepository(transaction)
        self.lines: AgentLineRepository = MemoryAgentLineRepository(transaction)
        self.audit: AuditRepository = MemoryAuditRepository(transaction)
        self.keys: ApiKeyRepository = MemoryApiKeyRepository(transaction)
        self.runs: RunRepository = MemoryRunRepository(transaction)
        self.schedules: ScheduleRepository = MemoryScheduleRepository(transaction)
        self.durable: DurableRunRepository = MemoryDurableRunRepository(transaction)
        self.sessions: SessionRepository = MemorySessionRepository(transaction)
        self.feedback: FeedbackRepository = MemoryFeedbackRepository(transaction)
        self.completions: CompletionRepository = MemoryCompletionRepository(transaction)
        self.responses: ResponseRepository = MemoryResponseRepository(transaction)
        self.run_events: RunEventRepository = MemoryRunEventRepository(transaction)
        self.limits: LimitRepository = MemoryLimitRepository(transaction)
        self.prices: PriceRepository = MemoryPriceRepository(transaction)
        self.usage: UsageRepository = MemoryUsageRepository(transaction)
        self.providers: ProviderRepository = MemoryProviderRepository(transaction)
        self.tool_calls: ToolCallRepository = MemoryToolCallRepository(transaction)
        self.memories: FactRepository = MemoryFactRepository(transaction)
        self.approvals: ApprovalRepository = MemoryApprovalRepository(transaction)
        self.webhooks: WebhookRepository = MemoryWebhookRepository(transaction)

    async def commit(self) -> None:
        self._transaction.commit()
        for aggregate in self._transaction.seen:
            while aggregate.events:
                await self._publish(aggregate.events.pop(0))


@asynccontextmanager
async def memory_unit_of_work(
    store: MemoryStore, publish: Publish, scope: Scope
) -> AsyncIterator[UnitOfWork]:
    transaction = MemoryTransaction(store, scope)
    try:
        yield MemoryUnitOfWork(transaction, publish)
    finally:
        transaction.close()


class Published(list[Event]):
    async def __call__(self, event: Event) -> None:
        self.append(event)


def _agent_copy(agent: Agent) -> Agent:
    spec = replace(agent.spec, config=_json_copy(agent.spec.config))
    return replace(agent, spec=spec, events=[])


def _line_copy(line: AgentLine) -> AgentLine:
    return replace(line, events=[])


def _json_copy(value: Mapping[str, object]) -> Any:  # noqa: ANN401 - as `json.loads`
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("A value is no JSON that can be stored.") from error
    return json.loads(storable(text))


def _checked(entity: T) -> T:
    """Raises InvalidValue for texts that a database does not take."""
    spec = getattr(entity, "spec", None)
    for part in (entity, spec):
        for name in getattr(part, "__dataclass_fields__", ()):
            value = getattr(part, name)
            if isinstance(value, str):
                storable(value)
                if name in ("project_id", "owner_id", "session_id") and len(value) > MAX_KEY:
                    raise InvalidValue("An identifier is too long.", param=name)
    return entity


def _created(agent: Agent) -> Position:
    return Position(agent.created_at, agent.id)


def _matches(agent: Agent, where: AgentFilter) -> bool:
    pairs = [
        (where.status, agent.status),
        (where.template_id, agent.spec.template.id),
        (where.owner_id, agent.owner_id),
        (where.line_id, agent.line_id),
        (where.slug, agent.slug.value),
        (where.agent_type, agent.spec.agent_type),
    ]
    named = where.name_contains is None or folded(where.name_contains) in folded(agent.spec.name)
    return named and all(wanted in (None, given) for wanted, given in pairs)


def _page(
    cursors: Cursors,
    found: Sequence[T],
    limit: int,
    after: str | None,
    position: Callable[[T], Position],
) -> Page[T]:
    start = cursors.read(after) if after is not None else None
    rest = [item for item in found if start is None or position(item) < start]
    newest = sorted(rest, key=position, reverse=True)
    return cursors.page(newest[: limit + 1], limit, position)
