from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.repositories.agents import AgentLineRepository, AgentRepository
from runtime.domain.repositories.approvals import ApprovalRepository
from runtime.domain.repositories.audit import AuditRepository
from runtime.domain.repositories.completions import CompletionRepository
from runtime.domain.repositories.durable import DurableRunRepository
from runtime.domain.repositories.feedback import FeedbackRepository
from runtime.domain.repositories.keys import ApiKeyRepository
from runtime.domain.repositories.limits import LimitRepository, PriceRepository, UsageRepository
from runtime.domain.repositories.memories import FactRepository
from runtime.domain.repositories.providers import ProviderRepository
from runtime.domain.repositories.responses import ResponseRepository, RunEventRepository
from runtime.domain.repositories.runs import RunRepository
from runtime.domain.repositories.schedules import ScheduleRepository
from runtime.domain.repositories.sessions import SessionRepository
from runtime.domain.repositories.tool_calls import ToolCallRepository
from runtime.domain.repositories.webhooks import WebhookRepository
from runtime.domain.unit_of_work import Publish, UnitOfWork
from runtime.domain.value_objects.identity import Scope
from runtime.infrastructure.database import refusals
from runtime.infrastructure.repositories.agents import SqlAgentLineRepository, SqlAgentRepository
from runtime.infrastructure.repositories.approvals import SqlApprovalRepository
from runtime.infrastructure.repositories.audit import SqlAuditRepository
from runtime.infrastructure.repositories.base import Aggregate
from runtime.infrastructure.repositories.completions import SqlCompletionRepository
from runtime.infrastructure.repositories.durable_runs import SqlDurableRunRepository
from runtime.infrastructure.repositories.feedback import SqlFeedbackRepository
from runtime.infrastructure.repositories.keys import SqlApiKeyRepository
from runtime.infrastructure.repositories.limits import (
    SqlLimitRepository,
    SqlPriceRepository,
    SqlUsageRepository,
)
from runtime.infrastructure.repositories.memories import SqlFactRepository
from runtime.infrastructure.repositories.providers import SqlProviderRepository
from runtime.infrastructure.repositories.responses import SqlResponseRepository
from runtime.infrastructure.repositories.run_events import SqlRunEventRepository
from runtime.infrastructure.repositories.runs import SqlRunRepository
from runtime.infrastructure.repositories.schedules import SqlScheduleRepository
from runtime.infrastructure.repositories.sessions import SqlSessionRepository
from runtime.infrastructure.repositories.tool_ledger import SqlToolCallRepository
from runtime.infrastructure.repositories.webhooks import SqlWebhookRepository


class SqlUnitOfWork(UnitOfWork):
    def __init__(self, connection: AsyncConnection, publish: Publish, scope: Scope) -> None:
        self._connection = connection
        self._publish = publish
        self._seen: list[Aggregate] = []
        common = (connection, scope, self._seen)
        self.agents: AgentRepository = SqlAgentRepository(*common)
        self.lines: AgentLineRepository = SqlAgentLineRepository(*common)
        self.audit: AuditRepository = SqlAuditRepository(*common)
        self.keys: ApiKeyRepository = SqlApiKeyRepository(*common)
        self.runs: RunRepository = SqlRunRepository(*common)
        self.durable: DurableRunRepository = SqlDurableRunRepository(*common)
        self.feedback: FeedbackRepository = SqlFeedbackRepository(*common)
        self.sessions: SessionRepository = SqlSessionRepository(*common)
        self.completions: CompletionRepository = SqlCompletionRepository(*common)
        self.responses: ResponseRepository = SqlResponseRepository(*common)
        self.run_events: RunEventRepository = SqlRunEventRepository(*common)
        self.limits: LimitRepository = SqlLimitRepository(*common)
        self.prices: PriceRepository = SqlPriceRepository(*common)
        self.usage: UsageRepository = SqlUsageRepository(*common)
        self.providers: ProviderRepository = SqlProviderRepository(*common)
        self.schedules: ScheduleRepository = SqlScheduleRepository(*common)
        self.tool_calls: ToolCallRepository = SqlToolCallRepository(*common)
        self.memories: FactRepository = SqlFactRepository(*common)
        self.approvals: ApprovalRepository = SqlApprovalRepository(*common)
        self.webhooks: WebhookRepository = SqlWebhookRepository(*common)

    async def commit(self) -> None:
        with refusals():
            await self._connection.commit()
        for aggregate in self._seen:
            while aggregate.events:
                await self._publish(aggregate.events.pop(0))


@asynccontextmanager
async def sql_unit_of_work(
    engine: AsyncEngine, publish: Publish, scope: Scope
) -> AsyncIterator[UnitOfWork]:
    # A connection per block: closing it rolls back, shielded from task cancellation. Opening it
    # and closing it may fail as any call may.
    with refusals():
        async with engine.connect() as connection:
            yield SqlUnitOfWork(connection, publish, scope)
