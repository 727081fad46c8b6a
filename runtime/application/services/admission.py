from collections import Counter
from dataclasses import dataclass, field

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import Draining, RateLimited, Saturated
from runtime.domain.value_objects.identity import Principal


@dataclass
class Admission:
    """How many runs go on at once. Full means a refusal now, never a hidden queue."""

    process_limit: int
    agent_limit: int
    user_limit: int
    running: int = 0
    welcoming: bool = True
    """False: a load balancer should send its callers elsewhere; who comes is still served."""
    open: bool = True
    _by_line: Counter[str] = field(default_factory=Counter)
    _by_user: Counter[tuple[str, str]] = field(default_factory=Counter)

    def enter(self, agent: Agent, caller: Principal, runs: int) -> None:
        """Raises Saturated, RateLimited, Draining."""
        if not self.open:
            raise Draining
        if self.running + runs > self.process_limit:
            raise Saturated("running agents", self.process_limit)
        if self._by_line[agent.line_id] + runs > self.agent_limit:
            raise Saturated(f"runs of '{agent.slug}'", self.agent_limit)
        if self._by_user[_user(caller)] + runs > self.user_limit:
            raise RateLimited(
                f"You have {self.user_limit} runs going on, which is the most.", retry_after_s=1
            )
        self.running += runs
        self._by_line[agent.line_id] += runs
        self._by_user[_user(caller)] += runs

    def leave(self, agent: Agent, caller: Principal, runs: int = 1) -> None:
        self.running -= runs
        self._by_line[agent.line_id] -= runs
        if not self._by_line[agent.line_id]:
            del self._by_line[agent.line_id]
        self._by_user[_user(caller)] -= runs
        if not self._by_user[_user(caller)]:
            del self._by_user[_user(caller)]


def _user(caller: Principal) -> tuple[str, str]:
    return caller.project_id, caller.user_id
