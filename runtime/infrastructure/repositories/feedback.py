from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, PrimaryKeyConstraint, Row, Table, select

from runtime.domain.entities.feedback import Feedback, Rating
from runtime.domain.repositories.feedback import FeedbackRepository
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId
from runtime.infrastructure.repositories.base import (
    Key,
    SqlRepository,
    UtcDateTime,
    Words,
    insert_or_replace,
    insertable,
    metadata,
)

feedback = Table(
    "feedback",
    metadata,
    Column("project_id", Key, nullable=False),
    # No foreign key: an opinion counts after its run was pruned.
    Column("run_id", Key, nullable=False),
    Column("owner_id", Key, nullable=False),
    Column("rating", Words, nullable=False),
    Column("comment", Words),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("project_id", "run_id", "owner_id"),
)


class SqlFeedbackRepository(SqlRepository, FeedbackRepository):
    async def put(self, given: Feedback) -> None:
        if given.project_id != self._project or given.owner_id != self._scope.user_id:
            raise ValueError(f"an opinion of {given.owner_id} in a unit of somebody else")
        statement = insert_or_replace(feedback, self._connection.dialect.name)
        await self._execute(statement, insertable(feedback, _values(given)))

    async def of_run(self, id: RunId) -> Sequence[Feedback]:
        query = select(feedback).where(*self._visible(feedback), feedback.c.run_id == id)
        query = query.order_by(feedback.c.at, feedback.c.owner_id)
        return [_to_feedback(row) for row in await self._execute(query)]


def _values(given: Feedback) -> Mapping[str, object]:
    return {
        "project_id": given.project_id,
        "run_id": given.run_id,
        "owner_id": given.owner_id,
        "rating": given.rating,
        "comment": given.comment,
        "at": given.at,
    }


def _to_feedback(row: Row[Any]) -> Feedback:
    return Feedback(
        run_id=RunId(row.run_id),
        project_id=ProjectId(row.project_id),
        owner_id=UserId(row.owner_id),
        rating=Rating(row.rating),
        comment=row.comment,
        at=row.at,
    )
