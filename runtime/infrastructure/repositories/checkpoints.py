"""Checkpoints as rows: one for the state, one for each value that changed, one for each write."""

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    delete,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.errors import CheckpointNotFound
from runtime.domain.repositories.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Fork,
    Progress,
    TaskWrite,
    Version,
)
from runtime.domain.services.durability import AttemptLost
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.checkpoint_rows import (
    TABLES,
    Rows,
    checkpoint_values,
    checkpoint_writes,
    checkpoints,
    rows_of,
    short,
    to_checkpoint,
    to_write,
    upsert,
    write_row,
)

_c, _v, _w = checkpoints.c, checkpoint_values.c, checkpoint_writes.c


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
        named = {(short(channel), version): (channel, version) for channel, version in versions}
        query = select(_v.channel, _v.version, _v.data).where(
            _v.run_id == run,
            _v.namespace == short(namespace),
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
                _w.namespace == short(namespace),
                _w.checkpoint_id.in_(checkpoints),
            )
            .order_by(_w.task_path, _w.task_id, _w.position)
        )
        with refusals():
            async with self._engine.connect() as connection:
                return [to_write(row, namespace) for row in await connection.execute(query)]

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
                    there.c.namespace == short(namespace),
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
                    used = [(short(channel), version) for channel, version in fork.versions]
                    of_it = tuple_(_v.channel, _v.version).in_(used)
                    there = and_(_v.namespace == "", of_it)
                    await _copy(connection, checkpoint_values, *ends, there)
                if writes:
                    await connection.execute(
                        checkpoint_writes.insert(),
                        [
                            {
                                **write_row(write, fork.target),
                                "project_id": fork.scope.project_id,
                                "owner_id": fork.scope.user_id,
                            }
                            for write in writes
                        ],
                    )

    async def delete(self, run: RunId) -> None:
        with refusals():
            async with self._engine.begin() as connection:
                for table in TABLES:
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
        query = select(checkpoints).where(_c.run_id == run, _c.namespace == short(namespace))
        if where is not None:
            query = query.where(where)
        if scope is not None:
            query = query.where(_c.project_id == scope.project_id)
            if not scope.administers:
                query = query.where(_c.owner_id == scope.user_id)
        query = query.order_by(_c.step.desc(), _c.id.desc()).limit(limit)
        with refusals():
            async with self._engine.connect() as connection:
                return [to_checkpoint(row, namespace) for row in await connection.execute(query)]


async def keep(connection: AsyncConnection, run: RunId, attempt: int, progress: Progress) -> None:
    """Raises AttemptLost."""
    for table, rows in rows_of(run, attempt, progress):
        if rows:
            await _fenced(connection, table, rows)


async def _fenced(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    statement = upsert(table, connection.dialect.name)
    if len(rows) == 1:
        done = await connection.execute(statement, rows[0])
    else:
        done = await connection.execute(statement, rows)
    if done.rowcount != len(rows):
        raise AttemptLost


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
