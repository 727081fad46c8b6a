from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.application.services.connections import ConnectionFigures, Connections
from runtime.application.services.run_statistics import RunFigures, RunStatistics
from runtime.domain.services.models import ModelServices, ProviderHealth
from runtime.domain.value_objects.identity import KeyScope, Principal, Role


@dataclass(frozen=True, slots=True)
class Statistics:
    since: datetime
    runs: RunFigures
    providers: Sequence[ProviderHealth]
    connections: ConnectionFigures
    """Of WebSockets."""
    with_cost: bool
    """Whether the caller may see what was spent."""


@dataclass(frozen=True)
class StatisticsQueries:
    runs: RunStatistics
    models: ModelServices
    connections: Connections
    started_at: datetime

    def get(self, actor: Principal) -> Statistics:
        """Of the actor's project, in this process. Raises Forbidden."""
        actor.require_scope(KeyScope.SYSTEM)
        project = actor.project_id
        return Statistics(
            self.started_at,
            self.runs.of(project),
            self.models.health(project),
            self.connections.figures(project),
            with_cost=actor.has(Role.ADMIN),
        )
