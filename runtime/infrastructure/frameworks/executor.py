"""From an agent version to something that runs, whatever its framework."""

import asyncio
import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from runtime.application.services.config_secrets import ConfigSecrets
from runtime.domain.entities.agents import Agent
from runtime.domain.errors import DomainError, ExecutionFailed
from runtime.domain.repositories.checkpoints import CheckpointStore
from runtime.domain.services.executor import AgentExecutor, AgentInstance
from runtime.domain.services.memories import MemoryService
from runtime.domain.services.models import ModelServices
from runtime.domain.services.tools import ToolService
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.redaction import redacted
from runtime.templates.base import BaseAgentTemplate, Services

logger = logging.getLogger(__name__)
Template = type[BaseAgentTemplate]


class FrameworkExecutor(ABC):
    """Makes instances of one framework's templates; found in `frameworks/<name>/executor.py`."""

    framework: ClassVar[str]

    @abstractmethod
    async def create_instance(
        self, agent: Agent, template: Template, services: Services
    ) -> AgentInstance: ...


class InProcessExecutor(FrameworkExecutor):
    """For frameworks that share our environment: the template's own class is the instance."""

    framework = "python"

    async def create_instance(
        self, agent: Agent, template: Template, services: Services
    ) -> AgentInstance:
        # In a thread: a user's graph may import half the world, and other runs go on meanwhile.
        instance: AgentInstance
        instance = await asyncio.to_thread(lambda: template.create_instance(agent, services))
        return instance


class TemplateExecutor(AgentExecutor):
    def __init__(
        self,
        registry: TemplateRegistry,
        models: ModelServices,
        tools: ToolService,
        memories: MemoryService,
        executors: Mapping[str, FrameworkExecutor],
        secrets: ConfigSecrets,
        checkpoints: CheckpointStore | None = None,
    ) -> None:
        self._registry = registry
        self._models = models
        self._tools = tools
        self._memories = memories
        self._executors = executors
        self._secrets = secrets
        self._checkpoints = checkpoints
        self._in_process = InProcessExecutor()

    def generation(self, agent: Agent) -> int:
        return self._registry.entry(agent.spec.template).info.generation + self._tools.generation

    async def build(self, agent: Agent) -> AgentInstance:
        template = self._registry.entry(agent.spec.template).template
        executor = self._executors.get(template.framework, self._in_process)
        opened = self._secrets.open(agent)
        services = Services(
            self._models.of(agent.project_id),
            self._tools,
            self._memories,
            config_of=lambda _: opened.config,
            checkpoints=self._checkpoints,
        )
        forget = redacted.know(opened.texts.values())
        try:
            instance = await executor.create_instance(agent, template, services)
            if opened.texts:
                # Hidden from the log for as long as the instance may write them there.
                weakref.finalize(instance, forget)
            return instance
        except DomainError:
            forget()
            raise
        except Exception as error:
            logger.exception("agent %s could not be built from %s", agent.id, agent.spec.template)
            forget()
            raise ExecutionFailed(
                f"The template {agent.spec.template} failed to build this agent; "
                "the log has the cause."
            ) from error
