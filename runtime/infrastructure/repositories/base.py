"""What the repositories share: column types, the scope of every statement, writes."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Dialect,
    Executable,
    Insert,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    delete,
    select,
    true,
    update,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.domain.errors import InvalidValue
from runtime.domain.events.base import Event
from runtime.domain.value_objects.identity import Scope
from runtime.infrastructure.database import refusals

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
MAX_KEY = 256
Values = Mapping[str, object]


class Words(TypeDecorator[str]):
    """Text, in code point order on every database; what one of them can't hold, none takes."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Text:
        return Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class Key(Words):
    """Text in an index, where PostgreSQL takes no more than 2,704 bytes: see `insertable`."""

    cache_ok = True


class Json(TypeDecorator[Any]):
    """JSON as text: `jsonb` makes 100 of 1e2, and with it another content hash."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str:
        return json_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ANN401
        return None if value is None else json.loads(value)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out on every database; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class Aggregate(Protocol):
    events: list[Event]


class SqlRepository:
    """Statements of one unit of work, on what its scope shows."""

    def __init__(self, connection: AsyncConnection, scope: Scope, seen: list[Aggregate]) -> None:
        self._connection = connection
        self._scope = scope
        self._project = scope.project_id
        self._seen = seen

    async def _execute(
        self, statement: Executable, values: Values | None = None
    ) -> CursorResult[Any]:
        with refusals():
            return await self._connection.execute(statement, values)

    async def _insert(self, table: Table, values: Values) -> bool:
        """Whether the row is in; a taken key leaves the transaction usable on every database."""
        if values["project_id"] != self._project:
            raise ValueError(f"a row of project {values['project_id']} in a unit of another one")
        if not self._scope.sees_all and values["owner_id"] != self._scope.user_id:
            raise ValueError(f"a row of {values['owner_id']} in a unit of somebody else")
        statement = insert_if_new(table, self._connection.dialect.name)
        statement = statement.execution_options(preserve_rowcount=True)
        return (await self._execute(statement, insertable(table, values))).rowcount == 1

    async def _taken(self, table: Table, id: str) -> bool:
        """In any project."""
        found = await self._execute(select(table.c.id).where(table.c.id == id))
        return found.first() is not None

    async def _update(self, table: Table, id: str, revision: int, values: Values) -> bool:
        """Whether the stored revision was the one given; it is one more now."""
        statement = update(table).where(*self._state(table, id, revision), self._written(table))
        done = await self._execute(statement.values({**values, "revision": revision + 1}))
        return done.rowcount == 1

    async def _delete(self, table: Table, id: str, revision: int) -> bool:
        statement = delete(table).where(*self._state(table, id, revision), self._removed(table))
        done = await self._execute(statement)
        return done.rowcount == 1

    def _visible(self, table: Table) -> Iterator[ColumnElement[bool]]:
        """What an administrator sees of the project, others of their own."""
        yield table.c.project_id == self._project
        if not self._scope.administers:
            yield table.c.owner_id == self._scope.user_id

    def _written(self, table: Table) -> ColumnElement[bool]:
        """Which rows the scope may change."""
        return true() if self._scope.sees_all else table.c.owner_id == self._scope.user_id

    def _removed(self, table: Table) -> ColumnElement[bool]:
        return self._written(table)

    def _state(self, table: Table, id: str, revision: int) -> tuple[ColumnElement[bool], ...]:
        columns = table.c
        return (
            columns.id == id,
            columns.project_id == self._project,
            columns.revision == revision,
        )


def insertable(table: Table, values: Values) -> Values:
    """Raises InvalidValue for a key too long to be indexed."""
    for column in table.columns:
        if isinstance(column.type, Key) and len(str(values[column.name])) > MAX_KEY:
            raise InvalidValue(
                f"An identifier has at most {MAX_KEY} characters.", param=column.name
            )
    return values


def insert_if_new(table: Table, dialect: str) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table).on_conflict_do_nothing()


def insert_or_replace(table: Table, dialect: str) -> Insert:
    """INSERT … ON CONFLICT DO UPDATE, of every column beside the key."""
    from sqlalchemy.dialects import postgresql, sqlite

    statement = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name, _ in table.c.items() if name not in keys}
    replaced: Insert = statement.on_conflict_do_update(index_elements=keys, set_=values)
    return replaced


def json_text(value: object) -> str:
    """As a column of the type Json holds it. Raises InvalidValue."""
    try:
        text = json.dumps(
            value,
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
            default=_plain_mapping,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidValue("A value is no JSON that can be stored.") from error
    return storable(text)


def storable(text: str) -> str:
    """As a plain `str`. Raises InvalidValue for what PostgreSQL or UTF-8 has no room for."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue("A text has half of a surrogate pair in it.") from error
    if "\x00" in text:
        raise InvalidValue("A text has a NUL character in it.")
    return str(text)


def _plain_mapping(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"{type(value).__name__} is no JSON value")
