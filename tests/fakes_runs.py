"""Stand-ins for what the engine drives: instances that do as they are told."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import (
    EmbeddingModelNotFound,
    FieldProblem,
    InvalidConfig,
    InvalidValue,
    TemplateNotFound,
)
from runtime.domain.services.executor import AgentExecutor, AgentInstance, Emit, RunInput
from runtime.domain.services.models import (
    EmbeddingCall,
    ModelCall,
    ModelEvent,
    ModelFinished,
    ModelService,
    ModelServices,
    Probed,
    ProviderHealth,
)
from runtime.domain.services.templates import (
    CheckedConfig,
    LoadProblem,
    PlatformBlanks,
    TemplateCatalog,
    TemplateInfo,
)
from runtime.domain.value_objects.agents import TemplateRef
from runtime.domain.value_objects.chat import GenerationOptions
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.domain.value_objects.ids import ProjectId

Script = Callable[[RunInput, Emit], Awaitable[None]]


@dataclass
class ScriptedInstance(AgentInstance):
    script: Script
    fixed: GenerationOptions = field(default_factory=GenerationOptions)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    obedient: bool = False
    closed: int = 0
    history_messages: int | None = None
    history_summary: bool = False

    @property
    def fixed_options(self) -> GenerationOptions:
        return self.fixed

    @property
    def unsupported_options(self) -> Mapping[str, str]:
        return self.unsupported

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        return self.obedient

    async def run(self, input: RunInput, emit: Emit) -> None:
        await self.script(input, emit)

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class ScriptedExecutor(AgentExecutor):
    """Makes one instance for each build, all with the same script."""

    script: Script
    fixed: GenerationOptions = field(default_factory=GenerationOptions)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    loaded: int = 1
    built: list[ScriptedInstance] = field(default_factory=list)
    gate: asyncio.Event | None = None
    history_messages: int | None = None
    history_summary: bool = False

    def generation(self, agent: Agent) -> int:
        return self.loaded

    async def build(self, agent: Agent) -> AgentInstance:
        if self.gate:
            await self.gate.wait()
        instance = ScriptedInstance(
            self.script,
            self.fixed,
            self.unsupported,
            history_messages=self.history_messages,
            history_summary=self.history_summary,
        )
        self.built.append(instance)
        return instance


class TwoTemplates(TemplateCatalog):
    """`bot` at 1.0.0 and 2.0.0: one text field, called `greeting`, then `welcome`."""

    FIELD: Mapping[str, str] = {"1.0.0": "greeting", "2.0.0": "welcome"}

    def list(self) -> Sequence[TemplateInfo]:
        return [self.get("bot", version) for version in ("2.0.0", "1.0.0")]

    def problems(self) -> Sequence[LoadProblem]:
        return []

    def get(self, id: str, version: str | None = None) -> TemplateInfo:
        version = version or "2.0.0"
        if id != "bot" or version not in self.FIELD:
            raise TemplateNotFound(TemplateRef(id, version))
        name = self.FIELD[version]
        schema = {"type": "object", "properties": {name: {"type": "string", "title": "Greeting"}}}
        return TemplateInfo(
            TemplateRef(id, version), "Bot", "", "python", "conversation", schema, [], "built-in"
        )

    def check(
        self,
        ref: TemplateRef,
        config: Mapping[str, object],
        blanks: PlatformBlanks = PlatformBlanks(),  # noqa: B008 - immutable
    ) -> CheckedConfig:
        allowed = self.FIELD[self.get(ref.id, ref.version).ref.version]
        unknown = [name for name in config if name != allowed]
        if unknown:
            raise InvalidConfig([FieldProblem(unknown[0], "There is no such field")])
        return CheckedConfig({allowed: "Hello", **config})

    def migrate(self, config: Mapping[str, object], to: TemplateRef, since: str) -> CheckedConfig:
        old, new = self.FIELD[since], self.FIELD[to.version]
        return self.check(to, {new if name == old else name: v for name, v in config.items()})


class OnlyDemo(ModelServices, ModelService):
    """Knows the model `demo`, which says nothing."""

    def of(self, project: ProjectId) -> ModelService:
        return self

    async def probe(self, project: ProjectId, model: str) -> Probed:
        return Probed(model, model, 1.0)

    def health(self, project: ProjectId) -> Sequence[ProviderHealth]:
        return []

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        yield ModelFinished("stop", "demo")

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        raise EmbeddingModelNotFound(call.model)

    def embedder(self, model: str) -> str:
        raise EmbeddingModelNotFound(model)

    def is_embedder(self, model: str) -> bool:
        return False

    def obeys(self, model: str | None, response_format: Mapping[str, object]) -> bool:
        return False

    def check(self, model: str | None) -> None:
        if model not in (None, "demo"):
            raise InvalidValue(f"No provider serves '{model}'.", param="llm_config_id")
