from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.domain.entities.agents import Agent
from runtime.domain.events.runs import RunEvent
from runtime.domain.services.durability import Durability
from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId
from runtime.domain.value_objects.memory import Recall


@dataclass(frozen=True, slots=True)
class RunInput:
    """One turn, as a template gets it."""

    run_id: RunId
    messages: Sequence[Message]
    options: GenerationOptions
    """What the caller asked for and the configuration leaves open."""
    user_id: UserId
    project_id: ProjectId
    claims: Mapping[str, object] = field(default_factory=dict)
    """Of the caller's JWT, checked; empty for other credentials."""
    stream: bool = True
    """Whether the caller reads the answer as it is made."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    recall: Recall | None = None
    """What is told of the conversation before `messages`, for agents that keep a summary."""
    durable: Durability | None = None
    """Of a run that outlives its process; None for one whose caller waits."""


Emit = Callable[[RunEvent], Awaitable[None]]
"""Waits while the reader is behind."""


class AgentInstance(Protocol):
    """An agent version made ready to run: built once, shared by its runs."""

    @property
    def fixed_options(self) -> GenerationOptions:
        """What the configuration fixes of a call's parameters."""

    @property
    def unsupported_options(self) -> Mapping[str, str]:
        """Parameters of a call that the agent can't honour, and why."""

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        """Whether all that it says comes from a model that keeps to the format by itself."""

    @property
    def history_messages(self) -> int | None:
        """How many of the latest messages it looks at; None: all."""

    @property
    def history_summary(self) -> bool:
        """Whether it wants to know, in a few words, what came before those."""

    async def run(self, input: RunInput, emit: Emit) -> None:
        """Emit what happens; cancelling the task that awaits this stops the agent.

        At most one RunCompleted, as the last event, where the finish reason is not `stop`
        or not obvious. Raises DomainError; of a durable run also RunSuspended and HandedOver.
        """

    async def aclose(self) -> None: ...


class AgentExecutor(Protocol):
    """Makes instances of agents of every installed framework."""

    def generation(self, agent: Agent) -> int:
        """Grows when the agent's template, or a tool, is loaded anew: an instance of an older one
        is not used for new runs. Raises TemplateNotFound."""

    async def build(self, agent: Agent) -> AgentInstance:
        """Raises TemplateNotFound, InvalidConfig, ExecutionFailed."""
