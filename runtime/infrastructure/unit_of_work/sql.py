from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.repositories.agents import AgentLineRepository, AgentRepository
from runtime.domain.repositories.audit import AuditRepository
from runtime.domain.repositories.runs import RunRepository
from runtime.domain.unit_of_work import Publish, UnitOfWork
from runtime.domain.value_objects.ids import ProjectId
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import SqlAgentLineRepository, SqlAgentRepository
from runtime.infrastructure.repositories.audit import SqlAuditRepository
from runtime.infrastructure.repositories.base import Aggregate
from runtime.infrastructure.repositories.runs import SqlRunRepository


class SqlUnitOfWork(UnitOfWork):
    def __init__(self, connection: AsyncConnection, publish: Publish, project: ProjectId) -> None:
        self._connection = connection
        self._publish = publish
        self._seen: list[Aggregate] = []
        scope = (connection, project, self._seen)
        self.agents: AgentRepository = SqlAgentRepository(*scope)
        self.lines: AgentLineRepository = SqlAgentLineRepository(*scope)
        self.audit: AuditRepository = SqlAuditRepository(*scope)
        self.runs: RunRepository = SqlRunRepository(*scope)

    async def commit(self) -> None:
        with refusals():
            await self._connection.commit()
        for aggregate in self._seen:
            while aggregate.events:
                await self._publish(aggregate.events.pop(0))


@asynccontextmanager
async def sql_unit_of_work(
    engine: AsyncEngine, publish: Publish, project: ProjectId
) -> AsyncIterator[UnitOfWork]:
    # A connection per block: closing it rolls back, shielded from task cancellation. Opening it
    # and closing it may fail as any call may.
    with refusals():
        async with engine.connect() as connection:
            yield SqlUnitOfWork(connection, publish, project)
