"""What the runs of each project were like since this process began."""

from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.services.monitor import RunWatch, Unwatched, UnwatchedRun
from runtime.domain.value_objects.chat import NO_USAGE, Usage
from runtime.domain.value_objects.ids import ProjectId, RunId
from runtime.domain.value_objects.quantiles import Latest

MOST_PROJECTS = 1_000


@dataclass(slots=True)
class RunFigures:
    active: int = 0
    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    usage: Usage = NO_USAGE
    cost: Decimal = Decimal(0)
    """In USD, of the runs whose models all have a price."""
    first_token: Latest = field(default_factory=Latest)
    duration: Latest = field(default_factory=Latest)

    @property
    def error_rate(self) -> float:
        """Failed runs of all that ended, 0 to 1."""
        ended = self.requests - self.active
        return round(self.errors / ended, 4) if ended else 0.0


class RunStatistics(Unwatched):
    """Told of every run, whatever door it came through."""

    def __init__(self) -> None:
        self._projects: OrderedDict[ProjectId, RunFigures] = OrderedDict()

    def of(self, project: ProjectId) -> RunFigures:
        found = self._projects.get(project)
        if found is None:
            found = self._projects[project] = RunFigures()
            if len(self._projects) > MOST_PROJECTS:
                self._projects.popitem(last=False)
        return found

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        figures = self.of(agent.project_id)
        figures.active += 1
        figures.requests += 1
        return _Watched(figures)


class _Watched(UnwatchedRun):
    def __init__(self, figures: RunFigures) -> None:
        self._figures = figures

    def ended(self, run: Run) -> None:
        figures = self._figures
        figures.active -= 1
        figures.errors += run.status is RunStatus.FAILED
        figures.cancelled += run.status is RunStatus.CANCELLED
        figures.usage += run.usage
        figures.cost += run.cost or 0
        figures.duration.add(run.duration_ms / 1_000)
        if run.first_token_ms is not None:
            figures.first_token.add(run.first_token_ms / 1_000)
