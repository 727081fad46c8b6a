from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Literal

from runtime.application.services.engine import Engine
from runtime.domain.errors import DomainError
from runtime.domain.repositories.runs import RunTotals
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal, Scope

Status = Literal["healthy", "degraded", "unhealthy"]
Check = Callable[[], Awaitable[Status]]
"""How a part of the runtime is; a DomainError means unhealthy."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    status: Status
    response_time_ms: float
    last_check: datetime


@dataclass(frozen=True, slots=True)
class Health:
    status: Status
    uptime_s: float
    started_at: datetime
    checks: Mapping[str, CheckResult]
    active_agents: int
    """Agent versions that are ready in memory."""
    running: int
    totals: RunTotals


@dataclass(frozen=True)
class HealthQueries:
    uow: UnitOfWorkFactory
    engine: Engine
    checks: Mapping[str, Check]
    now: Callable[[], datetime]
    started_at: datetime

    async def get(self, actor: Principal) -> Health:
        """The totals are of the runs that the actor sees. Raises Forbidden."""
        actor.require_scope(KeyScope.SYSTEM)
        checks = {name: await self._checked(check) for name, check in self.checks.items()}
        return Health(
            status=worst([check.status for check in checks.values()]),
            uptime_s=(self.now() - self.started_at).total_seconds(),
            started_at=self.started_at,
            checks=checks,
            active_agents=len(self.engine.instances),
            running=self.engine.admission.running,
            totals=await self._totals(actor.scope),
        )

    async def ready(self) -> bool:
        """Whether new work is welcome: not while shutting down, nor without the database."""
        admission = self.engine.admission
        if not (admission.welcoming and admission.open):
            return False
        return (await self._checked(self.checks["database"])).status == "healthy"

    async def _checked(self, check: Check) -> CheckResult:
        since = perf_counter()
        status: Status
        try:
            status = await check()
        except DomainError:
            status = "unhealthy"
        return CheckResult(status, (perf_counter() - since) * 1_000, self.now())

    async def _totals(self, scope: Scope) -> RunTotals:
        try:
            async with self.uow(scope) as work:
                return await work.runs.totals()
        except DomainError:
            return RunTotals(0, 0, 0.0)


def worst(statuses: list[Status]) -> Status:
    if "unhealthy" in statuses:
        return "unhealthy"
    return "degraded" if "degraded" in statuses else "healthy"
