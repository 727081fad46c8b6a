"""The contract a template author implements. `runtime.templates` is public API."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, cast

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import FieldProblem, InvalidConfig
from runtime.domain.events.runs import RunEvent
from runtime.domain.repositories.checkpoints import CheckpointStore
from runtime.domain.services.executor import Emit, RunInput
from runtime.domain.services.memories import MemoryService, RunMemory
from runtime.domain.services.models import ModelCall, ModelEvent, ModelService
from runtime.domain.services.templates import FormSection
from runtime.domain.services.tools import ToolOutcome, ToolService
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import Message, ToolCall
from runtime.templates.config import StrictConfig, fixed_options, plain_json, problems_of
from runtime.templates.forms import sections_of
from runtime.templates.scope import CURRENT, RunScope, current_run
from runtime.templates.tools import call_tool

C = TypeVar("C", bound=BaseModel, default=Any)


def _stored_config(agent: Agent) -> Mapping[str, object]:
    return agent.spec.config


@dataclass(frozen=True, slots=True)
class Services:
    """What an instance may use of the runtime."""

    models: ModelService
    tools: ToolService
    memories: MemoryService
    config_of: Callable[[Agent], Mapping[str, object]] = _stored_config
    """An agent's configuration with its secrets, which `agent.spec.config` has masked."""
    checkpoints: CheckpointStore | None = None
    """Where the steps of durable runs are kept; without it such runs begin anew."""


@dataclass(frozen=True, slots=True)
class TemplateMetadata:
    template_id: str
    template_name: str
    template_version: str
    template_description: str
    framework: str
    agent_type: str
    config_schema: Mapping[str, object]
    """JSON Schema of `Config`."""
    sections: Sequence[FormSection]
    """The same as a form."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    valid: bool
    config: Mapping[str, object]
    """Complete, defaults filled in, secrets as they are; empty when it is not valid."""
    errors: Sequence[FieldProblem] = ()


class BaseAgentTemplate(ABC, Generic[C]):
    """An agent with blanks. The class is the template; an instance is one agent version, ready.

    A subclass sets the class variables, says in `Config` which blanks there are, and implements
    `stream_execute`. Unknown configuration fields are refused even when `Config` does not say so.
    """

    template_id: ClassVar[str]
    """Stored with every agent made from it: never rename it, make another template instead."""
    template_name: ClassVar[str]
    template_version: ClassVar[str] = "1.0.0"
    """Semver. Raise it whenever what the template does to the same configuration changes."""
    template_description: ClassVar[str] = ""
    """The class docstring when empty."""
    framework: ClassVar[str] = "python"
    agent_type: ClassVar[str] = "conversation"
    """`conversation`, `task`, `workflow` or `custom`."""
    unsupported_options: Mapping[str, str] = {}
    """Parameters of a call that this template can't honour, and why; they are refused by name."""

    shares_memory: bool = False
    """Whether its agents may write what all users of the project then share."""

    Config: ClassVar[type[BaseModel]] = StrictConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of `object`
        super().__init_subclass__(**kwargs)
        if "Config" in cls.__dict__ and cls.Config.model_config.get("extra") is None:
            strict = {"model_config": ConfigDict(extra="forbid"), "__module__": cls.__module__}
            cls.Config = type("Config", (cls.Config,), strict)

    def __init__(self, config: C, agent: Agent, services: Services) -> None:
        self.config = config
        self.agent = agent
        self.services = services
        self.fixed_options = fixed_options(config)
        self.history_messages: int | None = getattr(config, "history_messages", None)
        self.history_summary = bool(getattr(config, "history_summary", False))

    @classmethod
    def get_metadata(cls) -> TemplateMetadata:
        """Raises ValueError naming the class variable that is missing or wrong."""
        for name in ("template_id", "template_name"):
            if not isinstance(getattr(cls, name, None), str) or not getattr(cls, name).strip():
                raise ValueError(f"{cls.__name__}.{name} must be a non-empty string")
        try:
            Version(cls.template_version)
        except InvalidVersion:
            raise ValueError(
                f"{cls.__name__}.template_version must be semver such as 1.0.0"
            ) from None
        return TemplateMetadata(
            template_id=cls.template_id,
            template_name=cls.template_name,
            template_version=cls.template_version,
            template_description=cls.template_description or _first_paragraph(cls),
            framework=cls.framework,
            agent_type=cls.agent_type,
            config_schema=cls.Config.model_json_schema(),
            sections=sections_of(cls.Config),
        )

    @classmethod
    def validate_config(cls, config: Mapping[str, object]) -> ValidationResult:
        parsed, problems = problems_of(cls.Config, config)
        if parsed is None:
            return ValidationResult(valid=False, config={}, errors=problems)
        return ValidationResult(valid=True, config=plain_json(parsed))

    @classmethod
    def migrate_config(cls, config: Mapping[str, object], since: str) -> Mapping[str, object]:
        """`config` as version `since` of this template took it, rewritten for this version.

        The result is validated afterwards. Override it when a field is renamed or removed.
        """
        return config

    @classmethod
    def granted_tools(cls, config: C) -> Mapping[str, str]:
        """The tools that `config` grants, each under its path in the configuration."""
        tools: Sequence[str] = getattr(config, "tools", ())
        return {f"tools.{index}": name for index, name in enumerate(tools)}

    @classmethod
    def create_instance(cls, agent: Agent, services: Services) -> Self:
        """Pure: no I/O here, it runs once per agent version. Raises InvalidConfig."""
        parsed, problems = problems_of(cls.Config, services.config_of(agent))
        if parsed is None:
            raise InvalidConfig(problems)
        return cls(cast(C, parsed), agent, services)

    @abstractmethod
    def stream_execute(self, input: RunInput) -> AsyncGenerator[RunEvent]:
        """What happens in one turn, in order; end with RunCompleted, or just end for `stop`.

        Closing the generator stops the agent. Raises DomainError; anything else is reported to
        the caller as an internal error and logged.
        """

    async def execute(self, input: RunInput) -> Answer:
        """The turn as one answer. Raises what `stream_execute` raises."""
        events: list[RunEvent] = []

        async def collect(event: RunEvent) -> None:
            events.append(event)

        await self.run(input, collect)
        return Answer.of(events)

    async def run(self, input: RunInput, emit: Emit) -> None:
        token = CURRENT.set(RunScope(input, emit))
        try:
            async with aclosing(self.stream_execute(input)) as events:
                async for event in events:
                    await emit(event)
        finally:
            CURRENT.reset(token)

    def obeys(self, response_format: Mapping[str, object]) -> bool:
        """Whether all that the agent says comes from a model that keeps to the format by itself:
        then a structured answer streams, and is held back until it is checked otherwise."""
        return False

    async def aclose(self) -> None:
        """Release what the instance holds; called once, after its last run."""

    def memory(self, input: RunInput | None = None) -> RunMemory:
        """What is known from earlier runs of this agent's with the user of `input`, which the
        nodes of a graph need not name. Raises ExecutionFailed outside of a run."""
        run = input or current_run().input
        return self.services.memories.of(run, self.agent, shares=self.shares_memory)

    async def call_tool(self, call: ToolCall, *, timeout_s: float = 30) -> ToolOutcome:
        """Call a tool that the configuration grants; the run's events tell of it.

        A tool that fails, or takes longer than `timeout_s` or its own limit, is an outcome. A
        durable run makes each call once: see docs/tools.md. `stream_execute` lets through what
        this raises.
        """
        return await call_tool(self.services.tools, call, timeout_s)

    def call_model(
        self, messages: Sequence[Message], input: RunInput
    ) -> AsyncGenerator[ModelEvent]:
        """The agent's model on `messages`, with the call's and the configuration's options."""
        options = input.options.over(self.fixed_options)
        call = ModelCall(self.agent.spec.model, messages, options, stream=input.stream)
        return self.services.models.stream(call)


def _first_paragraph(cls: type) -> str:
    return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
