from dataclasses import dataclass

from runtime.domain.events.base import Event
from runtime.domain.value_objects.ids import AgentId, LineId


@dataclass(frozen=True, slots=True)
class AgentEvent(Event):
    agent_id: AgentId
    line_id: LineId


@dataclass(frozen=True, slots=True)
class AgentCreated(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentUpdated(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentSubmitted(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentRejected(AgentEvent):
    reason: str


@dataclass(frozen=True, slots=True)
class AgentPublished(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentSuperseded(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentRevoked(AgentEvent): ...


@dataclass(frozen=True, slots=True)
class AgentDeleted(AgentEvent): ...
