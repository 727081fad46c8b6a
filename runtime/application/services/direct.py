"""Calls of a model without an agent around it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.entities.agents import Agent
from runtime.domain.services.models import ModelServices
from runtime.domain.value_objects.agents import AgentSpec, AgentStatus, Slug, TemplateRef
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import AgentId, LineId

TEMPLATE = TemplateRef("langgraph-simple-test", "1.0.0")
_CONFIG = {"system_prompt": "", "history_messages": 1_000}


@dataclass(frozen=True)
class DirectModels:
    """An agent that is nothing but the model: the run is counted, limited and recorded as any."""

    models: ModelServices
    now: Callable[[], datetime]

    def agent(self, model: str | None, caller: Principal) -> Agent:
        """None: the operator's default model. Nothing is stored of it. Raises Forbidden,
        InvalidValue where no provider serves the model."""
        caller.require_scope(KeyScope.MODELS)
        caller.require(Role.EDITOR, "call a model without an agent")
        self.models.of(caller.project_id).check(model)
        name = model or "default"
        spec = AgentSpec(name=name[:128], template=TEMPLATE, config=_CONFIG, model=model)
        at = self.now()
        return Agent(
            id=AgentId(f"model:{name}"),
            line_id=LineId(f"model:{name}"),
            slug=Slug.from_name(name),
            number=1,
            project_id=caller.project_id,
            owner_id=caller.user_id,
            author_id=caller.user_id,
            spec=spec,
            status=AgentStatus.PUBLISHED,
            created_at=at,
            updated_at=at,
        )
