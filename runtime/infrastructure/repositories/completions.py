from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Row,
    Table,
    cast,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.errors import CompletionNotFound, InvalidValue
from runtime.domain.repositories.completions import CompletionFilter, CompletionRepository
from runtime.domain.value_objects.chat import Message
from runtime.domain.value_objects.ids import CompletionId, ProjectId, UserId
from runtime.domain.value_objects.pages import Page
from runtime.infrastructure.repositories.base import (
    Json,
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    metadata,
    storable,
)
from runtime.infrastructure.repositories.chat_json import (
    answer_json,
    answer_of,
    message_json,
    message_of,
)
from runtime.infrastructure.repositories.pruning import SqlPruner

chat_completions = Table(
    "chat_completions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("model", Words, nullable=False),
    Column("fingerprint", Words, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("labels", Json, nullable=False),
    Column("choices", Json, nullable=False),
    Column("asked", Json, nullable=False),
    Index(None, "project_id", "owner_id", "created_at", "id"),
    Index(None, "created_at"),
)
_COLUMNS = chat_completions.c
_SHOWN = [column for column in _COLUMNS if column.name != "asked"]
"""What was asked may be far longer than the answer, and only one route wants it."""


class SqlCompletionRepository(SqlRepository, CompletionRepository):
    async def add(self, completion: ChatCompletion, asked: Sequence[Message]) -> None:
        values = {
            "id": completion.id,
            "project_id": completion.project_id,
            "owner_id": completion.owner_id,
            "model": completion.model,
            "fingerprint": completion.fingerprint,
            "created_at": completion.created_at,
            "labels": completion.labels,
            "choices": [answer_json(choice) for choice in completion.choices],
            "asked": [message_json(message) for message in asked],
        }
        if not await self._insert(chat_completions, values):
            raise ValueError(f"completion {completion.id} was written before")

    async def get(self, id: CompletionId) -> ChatCompletion:
        return _to_completion(await self._one(id, *_SHOWN))

    async def asked(self, id: CompletionId) -> Sequence[Message]:
        row = await self._one(id, _COLUMNS.asked)
        return [message_of(stored) for stored in row.asked]

    async def page(
        self,
        where: CompletionFilter,
        *,
        limit: int,
        after: CompletionId | None,
        newest_first: bool,
    ) -> Page[ChatCompletion]:
        query = select(*_SHOWN).where(*self._visible(chat_completions), *self._matching(where))
        position = tuple_(_COLUMNS.created_at, _COLUMNS.id)
        if after is not None:
            last = await self._position(after)
            query = query.where(position < last if newest_first else position > last)
        order = [column.desc() if newest_first else column for column in position]
        rows = (await self._execute(query.order_by(*order).limit(limit + 1))).all()
        items = [_to_completion(row) for row in rows[:limit]]
        return Page(items, items[-1].id if len(rows) > limit else None)

    async def relabel(self, id: CompletionId, labels: Mapping[str, str]) -> None:
        statement = update(chat_completions).where(
            *self._visible(chat_completions), _COLUMNS.id == id
        )
        if (await self._execute(statement.values(labels=labels))).rowcount != 1:
            raise CompletionNotFound(id)

    async def remove(self, id: CompletionId) -> None:
        statement = delete(chat_completions).where(
            *self._visible(chat_completions), _COLUMNS.id == id
        )
        if (await self._execute(statement)).rowcount != 1:
            raise CompletionNotFound(id)

    async def _one(self, id: CompletionId, *columns: ColumnElement[Any]) -> Row[Any]:
        query = select(*columns).where(
            *self._visible(chat_completions), _COLUMNS.id == storable(id)
        )
        row = (await self._execute(query)).first()
        if row is None:
            raise CompletionNotFound(id)
        return row

    async def _position(self, id: CompletionId) -> tuple[datetime, str]:
        try:
            row = await self._one(id, _COLUMNS.created_at, _COLUMNS.id)
        except CompletionNotFound:
            raise InvalidValue("There is no such chat completion.", param="after") from None
        return row.created_at, row.id

    def _matching(self, where: CompletionFilter) -> Iterator[ColumnElement[bool]]:
        if where.model is not None:
            yield _COLUMNS.model == where.model
        for name, value in where.labels.items():
            yield self._labelled(storable(name), storable(value))

    def _labelled(self, name: str, value: str) -> ColumnElement[bool]:
        if self._connection.dialect.name == "postgresql":
            labels = cast(_COLUMNS.labels, JSONB)
            return func.jsonb_extract_path_text(labels, name) == value
        pair = func.json_each(_COLUMNS.labels).table_valued("key", "value")
        found = select(literal(1)).where(pair.c.key == name, pair.c.value == value)
        return found.exists()


class SqlCompletionPruner(SqlPruner):
    at = _COLUMNS.created_at


def _to_completion(row: Row[Any]) -> ChatCompletion:
    return ChatCompletion(
        id=CompletionId(row.id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        model=row.model,
        fingerprint=row.fingerprint,
        created_at=row.created_at,
        labels=row.labels,
        choices=[answer_of(stored) for stored in row.choices],
    )
