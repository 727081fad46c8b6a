from collections import Counter
from dataclasses import dataclass, field

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import Draining, Saturated


@dataclass
class Admission:
    """How many runs go on at once. Full means a refusal now, never a hidden queue."""

    process_limit: int
    agent_limit: int
    running: int = 0
    open: bool = True
    _by_line: Counter[str] = field(default_factory=Counter)

    def enter(self, agent: Agent, runs: int) -> None:
        """Raises Saturated, Draining."""
        if not self.open:
            raise Draining
        if self.running + runs > self.process_limit:
            raise Saturated("running agents", self.process_limit)
        if self._by_line[agent.line_id] + runs > self.agent_limit:
            raise Saturated(f"runs of '{agent.slug}'", self.agent_limit)
        self.running += runs
        self._by_line[agent.line_id] += runs

    def leave(self, agent: Agent, runs: int = 1) -> None:
        self.running -= runs
        self._by_line[agent.line_id] -= runs
        if not self._by_line[agent.line_id]:
            del self._by_line[agent.line_id]
