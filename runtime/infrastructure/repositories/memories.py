import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Row,
    Subquery,
    Table,
    UniqueConstraint,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError

from runtime.domain.entities.memories import Fact, FoundFact, MemoryScope
from runtime.domain.errors import ConcurrentChange, MemoryExists, MemoryNotFound
from runtime.domain.repositories.memories import FactFilter, FactRepository
from runtime.domain.value_objects.ids import LineId, MemoryId, ProjectId, RunId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.domain.value_objects.words import asked_words, weights_of, worth_of
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insertable,
    metadata,
)
from runtime.infrastructure.repositories.cursors import Cursors, Position
from runtime.infrastructure.repositories.pruning import SqlPruner

memories = Table(
    "memories",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("scope", Words, nullable=False),
    # No foreign key: what is known outlives the agent.
    Column("line_id", Key),
    Column("namespace", Key, nullable=False),
    Column("key", Key),
    Column("identity", Key, nullable=False),
    Column("text", Words, nullable=False),
    Column("value", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("run_id", Key),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("project_id", "identity"),
    Index(None, "project_id", "owner_id", "created_at"),
    Index(None, "expires_at"),
)
memory_words = Table(
    "memory_words",
    metadata,
    Column("memory_id", Key, ForeignKey("memories.id", ondelete="CASCADE"), primary_key=True),
    Column("word", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    # The owner, or nobody in particular: how rare a word is must not depend on what others know.
    Column("reader", Key, nullable=False),
    Column("weight", Double, nullable=False),
    Index(None, "project_id", "word", "reader"),
)
CURSORS = Cursors("memories")
_EVERYBODY = ""
_COLUMNS = memories.c
_KEPT = ("id", "project_id", "owner_id", "scope", "line_id", "namespace", "created_at")


class SqlFactRepository(SqlRepository, FactRepository):
    async def put(self, fact: Fact) -> Fact:
        if fact.project_id != self._project or fact.owner_id != self._scope.user_id:
            raise ValueError(f"a memory of {fact.owner_id} in a unit of somebody else")
        from sqlalchemy.dialects import postgresql, sqlite

        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(memories)
        changed: dict[str, Any] = {
            name: statement.excluded[name] for name, _ in _COLUMNS.items() if name not in _KEPT
        }
        changed["revision"] = _COLUMNS.revision + 1
        replaced = statement.on_conflict_do_update(
            index_elements=["project_id", "identity"], set_=changed
        ).returning(*_COLUMNS)
        row = (await self._execute(replaced, insertable(memories, _values(fact)))).one()
        return await self._with_words(_to_fact(row))

    async def get(self, id: MemoryId, at: datetime) -> Fact:
        found = await self._first(FactFilter(at=at), _COLUMNS.id == id)
        if found is None:
            raise MemoryNotFound(id)
        return found

    async def find(self, identity: str, at: datetime) -> Fact | None:
        return await self._first(FactFilter(at=at), _COLUMNS.identity == identity)

    async def save(self, fact: Fact) -> Fact:
        mine = (*self._visible(memories), *self._state(memories, fact.id, fact.revision))
        values = {name: value for name, value in _values(fact).items() if name not in _KEPT}
        values["revision"] = fact.revision + 1
        statement = update(memories).where(*mine).values(values).returning(*_COLUMNS)
        try:
            row = (await self._execute(statement)).first()
        except IntegrityError as error:  # `identity` is the only constraint a caller can break
            raise MemoryExists from error
        if row is None:
            await self.get(fact.id, fact.updated_at)
            raise ConcurrentChange(f"Memory '{fact.id}'")
        return await self._with_words(_to_fact(row))

    async def remove(self, id: MemoryId) -> None:
        statement = delete(memories).where(*self._visible(memories), _COLUMNS.id == id)
        if (await self._execute(statement)).rowcount != 1:
            raise MemoryNotFound(id)

    async def clear(self) -> int:
        own = (*self._own(), _COLUMNS.scope != MemoryScope.SHARED)
        return (await self._execute(delete(memories).where(*own))).rowcount

    async def count(self, at: datetime) -> int:
        query = select(func.count()).select_from(memories).where(*self._own(), _alive(at))
        return int((await self._execute(query)).scalar_one())

    async def page(self, where: FactFilter, *, limit: int, after: str | None) -> Page[Fact]:
        query = select(memories).where(*self._matching(where))
        if after is not None:
            at, id = CURSORS.read(after)
            older = and_(_COLUMNS.created_at == at, _COLUMNS.id < id)
            query = query.where(or_(_COLUMNS.created_at < at, older))
        query = query.order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc()).limit(limit + 1)
        found = [_to_fact(row) for row in await self._execute(query)]
        return CURSORS.page(found, limit, position)

    async def search(self, query: str, where: FactFilter, *, limit: int) -> Sequence[FoundFact]:
        words = asked_words(query)
        if not words:
            return []
        scores = self._scores(await self._worth(words))
        joined = (
            select(memories, scores.c.score)
            .join(scores, scores.c.memory_id == _COLUMNS.id)
            .where(*self._matching(where))
            .order_by(scores.c.score.desc(), _COLUMNS.updated_at.desc(), _COLUMNS.id.desc())
            .limit(limit)
        )
        return [FoundFact(_to_fact(row), row.score) for row in await self._execute(joined)]

    async def namespaces(self, where: FactFilter, *, limit: int) -> Sequence[str]:
        query = select(_COLUMNS.namespace).where(*self._matching(where)).distinct()
        rows = await self._execute(query.order_by(_COLUMNS.namespace).limit(limit))
        return [row.namespace for row in rows]

    async def _first(self, where: FactFilter, which: ColumnElement[bool]) -> Fact | None:
        query = select(memories).where(*self._matching(where), which)
        row = (await self._execute(query)).first()
        return None if row is None else _to_fact(row)

    async def _worth(self, words: Sequence[str]) -> Mapping[str, float]:
        columns = memory_words.c
        query = select(columns.word, func.count().label("number")).where(*self._said(words))
        rows = await self._execute(query.group_by(columns.word))
        return worth_of({row.word: row.number for row in rows})

    def _scores(self, worth: Mapping[str, float]) -> Subquery:
        columns = memory_words.c
        each = case(worth, value=columns.word, else_=0.0) if worth else 0.0
        score = func.sum(columns.weight * each, type_=Double).label("score")
        query = select(columns.memory_id, score).where(*self._said(list(worth)))
        return query.group_by(columns.memory_id).subquery()

    def _said(self, words: Sequence[str]) -> Iterator[ColumnElement[bool]]:
        yield memory_words.c.project_id == self._project
        yield memory_words.c.word.in_(words)
        if not self._scope.administers:
            yield memory_words.c.reader.in_([self._scope.user_id, _EVERYBODY])

    async def _with_words(self, fact: Fact) -> Fact:
        await self._execute(delete(memory_words).where(memory_words.c.memory_id == fact.id))
        rows = list(_word_rows(fact))
        if rows:
            with refusals():
                await self._connection.execute(insert(memory_words), rows)
        return fact

    def _visible(self, table: Table) -> Iterator[ColumnElement[bool]]:
        """One's own and what the project shares; an administrator sees all of the project."""
        yield table.c.project_id == self._project
        if not self._scope.administers:
            mine = table.c.owner_id == self._scope.user_id
            yield or_(mine, table.c.scope == MemoryScope.SHARED)

    def _own(self) -> tuple[ColumnElement[bool], ...]:
        return _COLUMNS.project_id == self._project, _COLUMNS.owner_id == self._scope.user_id

    def _matching(self, where: FactFilter) -> Iterator[ColumnElement[bool]]:
        yield from self._visible(memories)
        yield _alive(where.at)
        if where.owner_id is not None:
            yield _COLUMNS.owner_id == where.owner_id
        if where.scope is not None:
            yield _COLUMNS.scope == where.scope
        if where.line_id is not None:
            yield or_(_COLUMNS.line_id.is_(None), _COLUMNS.line_id == where.line_id)
        if where.namespace:
            name = where.namespace
            below = and_(_COLUMNS.namespace > f"{name}.", _COLUMNS.namespace < f"{name}/")
            yield or_(_COLUMNS.namespace == name, below)
        if where.tag is not None:
            tags = type_coerce(_COLUMNS.tags, Words)
            yield func.replace(tags, json.dumps(where.tag, ensure_ascii=False), "") != tags


class SqlFactPruner(SqlPruner):
    """By when they expire."""

    at = _COLUMNS.expires_at


def position(fact: Fact) -> Position:
    return Position(fact.created_at, fact.id)


def _alive(at: datetime) -> ColumnElement[bool]:
    return or_(_COLUMNS.expires_at.is_(None), _COLUMNS.expires_at > at)


def _word_rows(fact: Fact) -> Iterator[dict[str, object]]:
    reader = _EVERYBODY if fact.scope is MemoryScope.SHARED else fact.owner_id
    for word, weight in weights_of(fact.searched).items():
        yield {
            "memory_id": fact.id,
            "word": word,
            "project_id": fact.project_id,
            "owner_id": fact.owner_id,
            "reader": reader,
            "weight": weight,
        }


def _values(fact: Fact) -> dict[str, object]:
    return {
        "id": fact.id,
        "project_id": fact.project_id,
        "owner_id": fact.owner_id,
        "scope": fact.scope,
        "line_id": fact.line_id,
        "namespace": fact.namespace,
        "key": fact.key,
        "identity": fact.identity,
        "text": fact.text,
        "value": fact.value,
        "tags": list(fact.tags),
        "run_id": fact.run_id,
        "created_at": fact.created_at,
        "updated_at": fact.updated_at,
        "expires_at": fact.expires_at,
        "revision": fact.revision,
    }


def _to_fact(row: Row[Any]) -> Fact:
    return Fact(
        id=MemoryId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        scope=MemoryScope(row.scope),
        line_id=row.line_id and LineId(row.line_id),
        namespace=row.namespace,
        key=row.key,
        text=row.text,
        value=row.value,
        tags=tuple(row.tags),
        run_id=row.run_id and RunId(row.run_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        revision=row.revision,
    )
