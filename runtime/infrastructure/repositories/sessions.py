from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Row,
    Select,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.sessions import Session
from runtime.domain.errors import (
    ConcurrentChange,
    ConversationNotFound,
    InvalidValue,
    ItemNotFound,
)
from runtime.domain.repositories.sessions import (
    Addition,
    SessionHolds,
    SessionKey,
    SessionName,
    SessionRepository,
)
from runtime.domain.value_objects.ids import ItemId, LineId, ProjectId, SessionId, UserId
from runtime.domain.value_objects.items import AgentToolItem, Item, ReasoningItem
from runtime.domain.value_objects.memory import Placed
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insert_if_new,
    insertable,
    metadata,
    storable,
)
from runtime.infrastructure.repositories.items import from_json, to_json

MOST_PRUNED = 500
"""Sessions in one transaction."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    # No foreign key: a conversation outlives its agent.
    Column("line_id", Key),
    Column("name", Key),
    Column("metadata", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("revision", Words, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("summary", Words, nullable=False),
    Column("summarised", BigInteger, nullable=False),
    Column("holder", Words),
    Column("held_until", Double),
    UniqueConstraint("project_id", "owner_id", "line_id", "name"),
)
session_items = Table(
    "session_items",
    metadata,
    Column("session_id", Key, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Key, nullable=False),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("read_by_model", Boolean, nullable=False),
    Column("item", Words, nullable=False),
    Index(None, "session_id", "id"),
)
_SHOWN_COLUMNS = [column for column in sessions.c if column.name not in ("holder", "held_until")]
_PLACED = (session_items.c.position, session_items.c.item)

_PROJECT: ColumnElement[str] = bindparam("project", type_=Key)
_USER: ColumnElement[str] = bindparam("user", type_=Key)
_ID: ColumnElement[str] = bindparam("of", type_=Key)
_HOLDER: ColumnElement[str] = bindparam("by", type_=Words)


def _clock(dialect: str) -> ColumnElement[float]:
    """The store's own time in seconds: those of the replicas may differ."""
    if dialect == "sqlite":
        return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)
    return literal_column("extract(epoch FROM clock_timestamp())::float8", Double)


class _Statements:
    """What every turn needs, made once for each database, for admins and for others."""

    def __init__(self, dialect: str, *, administers: bool) -> None:
        now = _clock(dialect)
        until = now + bindparam("seconds", type_=Double)
        ours = list(_shown(sessions, administers=administers))
        by_id = (*ours, sessions.c.id == _ID)
        by_name = (
            sessions.c.project_id == _PROJECT,
            sessions.c.owner_id == _USER,
            sessions.c.line_id == bindparam("line", type_=Key),
            sessions.c.name == bindparam("called", type_=Key),
        )
        own = sessions.c.holder == _HOLDER
        free = or_(sessions.c.holder.is_(None), own, sessions.c.held_until < now)
        hold = update(sessions).values(holder=_HOLDER, held_until=until).returning(*_SHOWN_COLUMNS)
        self.find_by_id = select(*_SHOWN_COLUMNS).where(*by_id)
        self.find_by_name = select(*_SHOWN_COLUMNS).where(*by_name)
        self.hold_by_id = hold.where(*by_id, free)
        self.hold_by_name = hold.where(*by_name, free)
        held = update(sessions).where(*by_id, sessions.c.holder == _HOLDER)
        ended: dict[str, Any] = {"holder": None, "held_until": None}
        self.release = held.values(ended)
        self.described = update(sessions).where(*by_id)
        self.remove = delete(sessions).where(*by_id)
        self.write = held.values(
            {
                **ended,
                "revision": _HOLDER,
                "updated_at": bindparam("at", type_=UtcDateTime),
                "length": bindparam("to", type_=BigInteger),
                "summary": bindparam("told", type_=Words),
                "summarised": bindparam("told_to", type_=BigInteger),
            }
        )
        self.add = insert_if_new(sessions, dialect).values(held_until=until)
        of_session = (
            session_items.c.session_id == _ID,
            *_shown(session_items, administers=administers),
        )
        self.items = select(*_PLACED).where(*of_session)
        self.cut = delete(session_items).where(*of_session)
        self.readable = self.items.where(
            session_items.c.read_by_model,
            session_items.c.position >= bindparam("since", type_=BigInteger),
        ).order_by(session_items.c.position.desc())
        self.add_items = insert(session_items)


@cache
def _statements(dialect: str, *, administers: bool) -> _Statements:
    return _Statements(dialect, administers=administers)


def _shown(table: Table, *, administers: bool) -> Iterator[ColumnElement[bool]]:
    yield table.c.project_id == _PROJECT
    if not administers:
        yield table.c.owner_id == _USER


class SqlSessionRepository(SqlRepository, SessionRepository):
    @property
    def _made(self) -> _Statements:
        return _statements(self._connection.dialect.name, administers=self._scope.administers)

    def _bound(self, **values: object) -> dict[str, object]:
        return {"project": self._project, "user": self._scope.user_id, **values}

    async def add(self, session: Session, holder: str | None = None, for_s: float = 0) -> bool:
        values = insertable(sessions, session_values(session))
        if session.project_id != self._project or session.owner_id != self._scope.user_id:
            raise ValueError("a session of somebody else")
        statement = self._made.add.execution_options(preserve_rowcount=True)
        done = await self._execute(statement, {**values, "holder": holder, "seconds": for_s})
        return done.rowcount == 1

    async def find(self, key: SessionKey) -> Session | None:
        named = isinstance(key, SessionName)
        statement = self._made.find_by_name if named else self._made.find_by_id
        row = (await self._execute(statement, self._bound(**_key(key)))).first()
        return None if row is None else _to_session(row)

    async def get(self, id: SessionId) -> Session:
        session = await self.find(id)
        if session is None:
            raise ConversationNotFound(id)
        return session

    async def hold(self, key: SessionKey, holder: str, for_s: float) -> Session | None:
        named = isinstance(key, SessionName)
        statement = self._made.hold_by_name if named else self._made.hold_by_id
        values = self._bound(by=holder, seconds=for_s, **_key(key))
        row = (await self._execute(statement, values)).first()
        return None if row is None else _to_session(row)

    async def write(self, session: Session, holder: str, addition: Addition, at: datetime) -> None:
        start = session.length if addition.cut is None else addition.cut
        told = addition.summary is not None
        values = self._bound(
            of=session.id,
            by=holder,
            at=at,
            to=start + len(addition.items),
            told=addition.summary if told else session.summary,
            told_to=addition.summarised if told else session.summarised,
        )
        if (await self._execute(self._made.write, values)).rowcount != 1:
            raise ConcurrentChange(f"Conversation '{session.id}'")
        if addition.cut is not None:
            cut = self._made.cut.where(session_items.c.position >= addition.cut)
            await self._execute(cut, self._bound(of=session.id))
        if addition.items:
            with refusals():
                await self._connection.execute(
                    self._made.add_items, list(item_rows(session, start, addition.items))
                )

    async def release(self, id: SessionId, holder: str) -> None:
        await self._execute(self._made.release, self._bound(of=id, by=holder))

    async def set_metadata(self, id: SessionId, metadata: Mapping[str, str], at: datetime) -> None:
        statement = self._made.described.values(metadata=dict(metadata), updated_at=at)
        if (await self._execute(statement, self._bound(of=id))).rowcount != 1:
            raise ConversationNotFound(id)

    async def remove(self, id: SessionId) -> None:
        if (await self._execute(self._made.remove, self._bound(of=id))).rowcount != 1:
            raise ConversationNotFound(id)

    async def latest(self, id: SessionId, limit: int | None, *, since: int = 0) -> Sequence[Placed]:
        query = self._made.readable if limit is None else self._made.readable.limit(limit)
        found = await self._execute(query, self._bound(of=id, since=since))
        return [_to_placed(row) for row in reversed(found.all())]

    async def item(self, id: SessionId, item: ItemId) -> Placed:
        query = self._made.items.where(session_items.c.id == item)
        row = (await self._execute(query, self._bound(of=id))).first()
        if row is None:
            raise ItemNotFound(item)
        return _to_placed(row)

    async def items(
        self, id: SessionId, *, limit: int, after: ItemId | None, newest_first: bool
    ) -> Sequence[Placed]:
        position = session_items.c.position
        query: Select[Any] = self._made.items.limit(limit)
        query = query.order_by(position.desc() if newest_first else position)
        if after is not None:
            start = (await self.item(id, after)).position
            query = query.where(position < start if newest_first else position > start)
        return [_to_placed(row) for row in await self._execute(query, self._bound(of=id))]

    async def remove_item(self, session: Session, holder: str, item: ItemId, at: datetime) -> None:
        cut = self._made.cut.where(session_items.c.id == item)
        removed = await self._execute(cut, self._bound(of=session.id))
        if removed.rowcount != 1:
            raise ItemNotFound(item)
        await self.write(session, holder, Addition(()), at)


class SqlSessionHolds(SessionHolds):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def renew(self, holders: Mapping[SessionId, str], for_s: float) -> None:
        if not holders:
            return
        until = _clock(self._engine.dialect.name) + for_s
        statement = (
            update(sessions)
            .where(sessions.c.id.in_(holders), sessions.c.holder.in_(holders.values()))
            .values(held_until=until)
        )
        with refusals():
            async with self._engine.begin() as connection:
                await connection.execute(statement)

    async def prune(self, before: datetime) -> int:
        now = _clock(self._engine.dialect.name)
        unused = (
            select(sessions.c.id)
            .where(
                sessions.c.updated_at < before,
                func.coalesce(sessions.c.held_until, 0.0) < now,
            )
            .limit(MOST_PRUNED)
        )
        pruned = 0
        while True:
            with refusals():
                async with self._engine.begin() as connection:
                    done = await connection.execute(
                        delete(sessions).where(sessions.c.id.in_(unused))
                    )
            pruned += done.rowcount
            if done.rowcount < MOST_PRUNED:
                return pruned


def _key(key: SessionKey) -> dict[str, object]:
    if isinstance(key, SessionName):
        return {"line": key.line_id, "called": key.name}
    return {"of": key}


def session_values(session: Session) -> Mapping[str, object]:
    return {
        "id": session.id,
        "project_id": session.project_id,
        "owner_id": session.owner_id,
        "line_id": session.line_id,
        "name": session.name,
        "metadata": dict(session.metadata),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "revision": session.revision,
        "length": session.length,
        "summary": session.summary,
        "summarised": session.summarised,
    }


def _to_session(row: Row[Any]) -> Session:
    return Session(
        id=SessionId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        line_id=row.line_id and LineId(row.line_id),
        name=row.name,
        metadata=row.metadata,
        created_at=row.created_at,
        updated_at=row.updated_at,
        revision=row.revision,
        length=row.length,
        summary=row.summary,
        summarised=row.summarised,
    )


def item_rows(session: Session, start: int, items: Sequence[Item]) -> Iterator[dict[str, object]]:
    for position, item in enumerate(items, start):
        yield {
            "session_id": session.id,
            "position": position,
            "id": item.id,
            "project_id": session.project_id,
            "owner_id": session.owner_id,
            "read_by_model": not isinstance(item, ReasoningItem | AgentToolItem),
            "item": _text(item),
        }


def _text(item: Item) -> str:
    """Raises InvalidValue."""
    try:
        return storable(orjson.dumps(to_json(item)).decode())
    except TypeError as error:  # orjson's word for half of a surrogate pair
        raise InvalidValue("A text has half of a surrogate pair in it.") from error


def _to_placed(row: Row[Any]) -> Placed:
    return Placed(row.position, from_json(orjson.loads(row.item)))
