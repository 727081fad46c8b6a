from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runtime.domain.events.base import Event
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
from runtime.domain.value_objects.identity import Scope

Publish = Callable[[Event], Awaitable[None]]


class UnitOfWork(Protocol):
    """One transaction in a scope: leaving the block without `commit()` discards everything.

    Any call raises DatabaseUnavailable while the store can't be reached.
    """

    agents: AgentRepository
    lines: AgentLineRepository
    audit: AuditRepository
    keys: ApiKeyRepository
    runs: RunRepository
    durable: DurableRunRepository
    feedback: FeedbackRepository
    sessions: SessionRepository
    completions: CompletionRepository
    responses: ResponseRepository
    run_events: RunEventRepository
    limits: LimitRepository
    prices: PriceRepository
    usage: UsageRepository
    providers: ProviderRepository
    schedules: ScheduleRepository
    tool_calls: ToolCallRepository
    memories: FactRepository
    approvals: ApprovalRepository
    webhooks: WebhookRepository

    async def commit(self) -> None:
        """Make the changes durable, then publish the events of every touched aggregate."""


UnitOfWorkFactory = Callable[[Scope], AbstractAsyncContextManager[UnitOfWork]]
