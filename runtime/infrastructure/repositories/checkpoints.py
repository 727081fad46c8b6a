"""Checkpoints as rows: one for the state, one for each value that changed, one for each write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Insert,
    LargeBinary,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import CheckpointNotFound
from runtime.domain.repositories.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Fork,
    Progress,
    TaskWrite,
    Version,
)
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.services.durability import AttemptLost
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.base import Key, UtcDateTime, Words, metadata
from runtime.infrastructure.repositories.durable_runs import durable_runs

_LONGEST = 200
"""Characters of a name as it is in an index; of a longer one there is its hash."""
_AT_ONCE = 200
"""Runs whose checkpoints are deleted in one transaction."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", Key, primary_key=True),
    Column("namespace", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("parent_id", Words),
    Column("step", BigInteger, nullable=False),
    Column("source", Words, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Index(None, "created_at"),
)
checkpoint_values = Table(
    "checkpoint_values",
    metadata,
    Column("run_id", Key, primary_key=True),
    Column("namespace", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("version", Key, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    Column("run_id", Key, primary_key=True),
    Column("namespace", Key, primary_key=True),
    Column("checkpoint_id", Key, primary_key=True),
    Column("task_id", Key, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("project_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("task_path", Words, nullable=False),
    Column("channel", Words, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
_TABLES = (checkpoints, checkpoint_values, checkpoint_writes)
_c, _v, _w = checkpoints.c, checkpoint_values.c, checkpoint_writes.c
Rows = list[dict[str, object]]


class SqlCheckpointStore(CheckpointStore):
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def save(self, run: RunId, attempt: int, progress: Progress) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                await keep(connection, run, attempt, progress)

    async def find(
        self, run: RunId, namespace: str = "", id: str | None = None
    ) -> Checkpoint | None:
        found = await self._read(run, namespace, _c.id == id if id else None, limit=1)
        return found[0] if found else None

    async def values(
        self, run: RunId, namespace: str, versions: Sequence[Version]
    ) -> Mapping[Version, bytes]:
        if not versions:
            return {}
        named = {(_short(channel), version): (channel, version) for channel, version in versions}
        query = select(_v.channel, _v.version, _v.data).where(
            _v.run_id == run,
            _v.namespace == _short(namespace),
            tuple_(_v.channel, _v.version).in_(list(named)),
        )
        with refusals():
            async with self._engine.connect() as connection:
                rows = await connection.execute(query)
                return {named[row.channel, row.version]: row.data for row in rows}

    async def writes(
        self, run: RunId, namespace: str, checkpoints: Sequence[str]
    ) -> Sequence[TaskWrite]:
        query = (
            select(checkpoint_writes)
            .where(
                _w.run_id == run,
                _w.namespace == _short(namespace),
                _w.checkpoint_id.in_(checkpoints),
            )
            .order_by(_w.task_path, _w.task_id, _w.position)
        )
        with refusals():
            async with self._engine.connect() as connection:
                return [_to_write(row, namespace) for row in await connection.execute(query)]

    async def history(
        self,
        run: RunId,
        namespace: str = "",
        *,
        scope: Scope | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Checkpoint]:
        earlier: ColumnElement[bool] | None = None
        if before is not None:
            there = checkpoints.alias()
            place = (
                select(there.c.step, there.c.id)
                .where(
                    there.c.run_id == run,
                    there.c.namespace == _short(namespace),
                    there.c.id == before,
                )
                .scalar_subquery()
            )
            earlier = tuple_(_c.step, _c.id) < place
        return await self._read(run, namespace, earlier, scope=scope, limit=limit)

    async def copy(self, source: RunId, target: RunId, scope: Scope) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                newest = await _newest(connection, source)
                if not newest:
                    return
                ends = (source, target, scope)
                chosen = tuple_(_c.namespace, _c.id).in_(newest)
                await _copy(connection, checkpoints, *ends, chosen, source_is="copy")
                # Versions grow, so the newest state is made of the last ones.
                last = (
                    select(_v.namespace, _v.channel, func.max(_v.version))
                    .where(_v.run_id == source)
                    .group_by(_v.namespace, _v.channel)
                )
                latest = tuple_(_v.namespace, _v.channel, _v.version).in_(last)
                await _copy(connection, checkpoint_values, *ends, latest)
                behind = tuple_(_w.namespace, _w.checkpoint_id).in_(newest)
                await _copy(connection, checkpoint_writes, *ends, behind)

    async def fork(self, fork: Fork, writes: Sequence[TaskWrite] = ()) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                chosen = tuple_(_c.namespace, _c.id).in_([("", fork.checkpoint_id)])
                ends = (fork.source, fork.target, fork.scope)
                done = await _copy(connection, checkpoints, *ends, chosen, source_is=fork.begins)
                if not done:
                    raise CheckpointNotFound(fork.checkpoint_id)
                if fork.versions:
                    used = [(_short(channel), version) for channel, version in fork.versions]
                    of_it = tuple_(_v.channel, _v.version).in_(used)
                    there = and_(_v.namespace == "", of_it)
                    await _copy(connection, checkpoint_values, *ends, there)
                if writes:
                    await connection.execute(
                        checkpoint_writes.insert(),
                        [
                            {
                                **_write_row(write, fork.target),
                                "project_id": fork.scope.project_id,
                                "owner_id": fork.scope.user_id,
                            }
                            for write in writes
                        ],
                    )

    async def delete(self, run: RunId) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                for table in _TABLES:
                    await connection.execute(delete(table).where(table.c.run_id == run))

    async def _read(
        self,
        run: RunId,
        namespace: str,
        where: ColumnElement[bool] | None,
        *,
        scope: Scope | None = None,
        limit: int | None,
    ) -> Sequence[Checkpoint]:
        query = select(checkpoints).where(_c.run_id == run, _c.namespace == _short(namespace))
        if where is not None:
            query = query.where(where)
        if scope is not None:
            query = query.where(_c.project_id == scope.project_id)
            if not scope.administers:
                query = query.where(_c.owner_id == scope.user_id)
        query = query.order_by(_c.step.desc(), _c.id.desc()).limit(limit)
        with refusals():
            async with self._engine.connect() as connection:
                return [_to_checkpoint(row, namespace) for row in await connection.execute(query)]


class SqlCheckpointPruner(Pruner):
    """Deletes the checkpoints of runs that ended before the time, or are not on record."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        """How many runs have none any more."""
        gone = 0
        while True:
            with refusals():
                async with self._engine.begin() as connection:
                    runs = [row.run_id for row in await connection.execute(_ended(before))]
                    for table in _TABLES:
                        await connection.execute(delete(table).where(table.c.run_id.in_(runs)))
            gone += len(runs)
            if len(runs) < _AT_ONCE:
                return gone


def _ended(before: datetime) -> Any:  # noqa: ANN401
    of_it = durable_runs.c.id == _c.run_id
    goes_on = exists().where(
        of_it, or_(durable_runs.c.ended_at.is_(None), durable_runs.c.ended_at >= before)
    )
    return select(_c.run_id).where(_c.created_at < before, ~goes_on).distinct().limit(_AT_ONCE)


async def keep(connection: AsyncConnection, run: RunId, attempt: int, progress: Progress) -> None:
    """Raises AttemptLost."""
    for table, rows in _rows(run, attempt, progress):
        if rows:
            await _fenced(connection, table, rows)


async def _fenced(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    statement = _upsert(table, connection.dialect.name)
    if len(rows) == 1:
        done = await connection.execute(statement, rows[0])
    else:
        done = await connection.execute(statement, rows)
    if done.rowcount != len(rows):
        raise AttemptLost


@cache
def _upsert(table: Table, dialect: str) -> Insert:
    """Over what is there: a commit whose answer was lost is made again. No row at all unless the
    attempt is the run's, which the row lock keeps so until the commit."""
    from sqlalchemy.dialects import postgresql, sqlite

    runs = durable_runs.c
    given = {"project_id": runs.project_id, "owner_id": runs.owner_id}
    values = [
        given.get(name, bindparam(name, type_=column.type)) for name, column in table.c.items()
    ]
    fence = (
        select(*values)
        .select_from(durable_runs)
        .where(
            runs.id == bindparam("fenced_run"),
            runs.attempt == bindparam("fenced_attempt"),
            runs.status == RunStatus.RUNNING,
        )
        .with_for_update(read=True)
    )
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    keys = [column.name for column in table.primary_key]
    insert = statement.from_select([column.name for column in table.columns], fence)
    replaced = {
        each.name: insert.excluded[each.name] for each in table.columns if not each.primary_key
    }
    upsert: Insert = insert.on_conflict_do_update(index_elements=keys, set_=replaced)
    return upsert.execution_options(preserve_rowcount=True)


def _rows(run: RunId, attempt: int, progress: Progress) -> Sequence[tuple[Table, Rows]]:
    fence: dict[str, object] = {"fenced_run": run, "fenced_attempt": attempt}
    return (
        (
            checkpoints,
            [
                {
                    **fence,
                    "run_id": run,
                    "namespace": _short(each.namespace),
                    "id": each.id,
                    "parent_id": each.parent_id,
                    "step": each.step,
                    "source": each.source,
                    "created_at": each.created_at,
                    "state": each.state,
                }
                for each in progress.checkpoints
            ],
        ),
        (
            checkpoint_values,
            [
                {
                    **fence,
                    "run_id": run,
                    "namespace": _short(each.namespace),
                    "channel": _short(each.channel),
                    "version": each.version,
                    "data": each.data,
                }
                for each in progress.values
            ],
        ),
        (checkpoint_writes, [{**fence, **_write_row(each, run)} for each in progress.writes]),
    )


def _write_row(write: TaskWrite, run: RunId) -> dict[str, object]:
    return {
        "run_id": run,
        "namespace": _short(write.namespace),
        "checkpoint_id": write.checkpoint_id,
        "task_id": write.task_id,
        "position": write.position,
        "task_path": write.task_path,
        "channel": write.channel,
        "data": write.data,
    }


async def _newest(connection: AsyncConnection, run: RunId) -> Sequence[tuple[str, str]]:
    """By namespace, which checkpoint."""
    query = select(_c.namespace, _c.id).where(_c.run_id == run).order_by(_c.step, _c.id)
    return list({row.namespace: row.id for row in await connection.execute(query)}.items())


async def _copy(
    connection: AsyncConnection,
    table: Table,
    source: RunId,
    target: RunId,
    scope: Scope,
    where: ColumnElement[bool] | None = None,
    source_is: str | None = None,
) -> int:
    """How many rows there are for the target now."""
    given: dict[str, object] = {
        "run_id": target,
        "project_id": scope.project_id,
        "owner_id": scope.user_id,
    }
    if source_is is not None:
        given["source"] = source_is
    columns = [
        literal(given[name], column.type) if name in given else column
        for name, column in table.c.items()
    ]
    query = select(*columns).where(table.c.run_id == source)
    if where is not None:
        query = query.where(where)
    statement = table.insert().from_select([column.name for column in table.columns], query)
    statement = statement.execution_options(preserve_rowcount=True)
    return (await connection.execute(statement)).rowcount


def _short(name: str) -> str:
    """Names come from people's code and from how deep graphs lie in each other."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[:100]}#{sha256(name.encode()).hexdigest()}"


def _to_checkpoint(row: Row[Any], namespace: str) -> Checkpoint:
    return Checkpoint(
        namespace=namespace,
        id=row.id,
        parent_id=row.parent_id,
        step=row.step,
        source=row.source,
        created_at=row.created_at,
        state=row.state,
    )


def _to_write(row: Row[Any], namespace: str) -> TaskWrite:
    return TaskWrite(
        namespace=namespace,
        checkpoint_id=row.checkpoint_id,
        task_id=row.task_id,
        task_path=row.task_path,
        position=row.position,
        channel=row.channel,
        data=row.data,
    )
