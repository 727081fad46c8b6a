"""The tables of checkpoints: one row for a state, one for each large value, one for each write."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Insert,
    LargeBinary,
    Row,
    Table,
    bindparam,
    select,
)

from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.checkpoints import Checkpoint, Progress, TaskWrite
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.repositories.base import Key, UtcDateTime, Words, metadata
from runtime.infrastructure.repositories.durable_runs import durable_runs

_LONGEST = 200
"""Characters of a name as it is in an index; of a longer one there is its hash."""
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
TABLES = (checkpoints, checkpoint_values, checkpoint_writes)
Rows = list[dict[str, object]]


def short(name: str) -> str:
    """Names come from people's code and from how deep graphs lie in each other."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[:100]}#{sha256(name.encode()).hexdigest()}"


def to_checkpoint(row: Row[Any], namespace: str) -> Checkpoint:
    return Checkpoint(
        namespace=namespace,
        id=row.id,
        parent_id=row.parent_id,
        step=row.step,
        source=row.source,
        created_at=row.created_at,
        state=row.state,
    )


def to_write(row: Row[Any], namespace: str) -> TaskWrite:
    return TaskWrite(
        namespace=namespace,
        checkpoint_id=row.checkpoint_id,
        task_id=row.task_id,
        task_path=row.task_path,
        position=row.position,
        channel=row.channel,
        data=row.data,
    )


@cache
def upsert(table: Table, dialect: str) -> Insert:
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
    whole: Insert = insert.on_conflict_do_update(index_elements=keys, set_=replaced)
    return whole.execution_options(preserve_rowcount=True)


def rows_of(run: RunId, attempt: int, progress: Progress) -> Sequence[tuple[Table, Rows]]:
    fence: dict[str, object] = {"fenced_run": run, "fenced_attempt": attempt}
    return (
        (
            checkpoints,
            [
                {
                    **fence,
                    "run_id": run,
                    "namespace": short(each.namespace),
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
                    "namespace": short(each.namespace),
                    "channel": short(each.channel),
                    "version": each.version,
                    "data": each.data,
                }
                for each in progress.values
            ],
        ),
        (checkpoint_writes, [{**fence, **write_row(each, run)} for each in progress.writes]),
    )


def write_row(write: TaskWrite, run: RunId) -> dict[str, object]:
    return {
        "run_id": run,
        "namespace": short(write.namespace),
        "checkpoint_id": write.checkpoint_id,
        "task_id": write.task_id,
        "position": write.position,
        "task_path": write.task_path,
        "channel": write.channel,
        "data": write.data,
    }
