from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Column, delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.pruning import Pruner
from runtime.infrastructure.database import refusals

_AT_ONCE = 500
"""Rows deleted in one statement: others write too."""


class SqlPruner(Pruner):
    """Deletes the rows of one table by a time in them, in small transactions."""

    at: ClassVar[Column[Any]]

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def prune(self, before: datetime) -> int:
        table = self.at.table
        old = select(table.c.id).where(self.at < before).limit(_AT_ONCE)
        statement = delete(table).where(table.c.id.in_(old))
        gone = 0
        while True:
            with refusals():
                async with self._engine.begin() as connection:
                    done = (await connection.execute(statement)).rowcount
            gone += done
            if done < _AT_ONCE:
                return gone
