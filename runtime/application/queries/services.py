"""The runtime's health as a gateway tells it: by service."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.application.queries.health import HealthQueries, Status, worst
from runtime.domain.services.tools import ToolService
from runtime.domain.value_objects.identity import Principal

_CHECKS = {"agent_service": ("database", "agent_templates"), "model_service": ("llm_proxy",)}
"""What each service can't do without."""


@dataclass(frozen=True, slots=True)
class Services:
    status: Status
    services: Mapping[str, Status]


@dataclass(frozen=True)
class ServiceQueries:
    health: HealthQueries
    tools: ToolService

    async def get(self, actor: Principal) -> Services:
        """Raises Forbidden."""
        health = await self.health.get(actor)
        found: dict[str, Status] = {
            service: worst([health.checks[name].status for name in checks])
            for service, checks in _CHECKS.items()
        }
        found["tool_service"] = "healthy" if self.tools.names() else "degraded"
        return Services(health.status, found)
