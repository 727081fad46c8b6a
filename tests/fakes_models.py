"""A scripted model service, and what a test needs to run a template on it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from runtime.application.services.memories import MemoryBook
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.providers import ProviderModel
from runtime.domain.errors import DomainError, EmbeddingModelNotFound, InvalidValue
from runtime.domain.events.runs import (
    RunEvent,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.executor import RunInput
from runtime.domain.services.memories import MemoryService
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
from runtime.domain.services.monitor import UNWATCHED, Monitor
from runtime.domain.services.tools import ToolOutcome, ToolService, ToolTraits
from runtime.domain.value_objects.agents import AgentSpec, Slug, TemplateRef
from runtime.domain.value_objects.chat import (
    ChatRole,
    FinishReason,
    GenerationOptions,
    Message,
    ToolSpec,
    Usage,
)
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.domain.value_objects.identity import DEFAULT_PROJECT, LOCAL_USER
from runtime.domain.value_objects.ids import ProjectId, new_agent_id, new_line_id, new_run_id
from runtime.domain.value_objects.providers import AS_CONFIGURED, Tuning
from runtime.infrastructure.providers.attempts import Attempts
from runtime.infrastructure.providers.base import Provider
from runtime.infrastructure.providers.directory import Directory
from runtime.infrastructure.providers.live import DEFAULTS, LiveProvider
from runtime.infrastructure.providers.service import PooledModelServices, ProjectModels
from runtime.infrastructure.tools.service import BuiltinTools
from runtime.templates.base import BaseAgentTemplate, Services
from tests.fakes import MemoryStore, Published, memory_unit_of_work

T = TypeVar("T", bound=BaseAgentTemplate)
NO_OPTIONS = GenerationOptions()
Item = ModelEvent | Exception | asyncio.Event
"""An event is waited for; an exception is raised."""
Reply = Sequence[Item]
WHEN = datetime(2026, 11, 21, tzinfo=UTC)


def says(*pieces: str, finish: FinishReason = "stop", then: Sequence[Item] = ()) -> Reply:
    text = [TextDelta(piece) for piece in pieces]
    return [
        *text,
        *then,
        UsageReported(Usage(10, 5), "scripted"),
        ModelFinished(finish, "scripted"),
    ]


def calls(*wishes: tuple[str, str], finish: FinishReason = "tool_calls", text: str = "") -> Reply:
    """Tool calls as (name, arguments); each comes in two pieces."""
    events: list[Item] = [TextDelta(text)] if text else []
    for index, (name, arguments) in enumerate(wishes):
        half = len(arguments) // 2
        events.append(ToolCallDelta(index, f"call_{index}", name, arguments[:half]))
        events.append(ToolCallDelta(index, arguments=arguments[half:]))
    return [*events, *says(finish=finish)]


class ScriptedModels(ModelServices, ModelService):
    """Answers each call with the next reply, or with the first whose key its prompt contains."""

    def __init__(self, *replies: Reply, by_prompt: dict[str, Reply] | None = None) -> None:
        self.calls: list[ModelCall] = []
        self.obedient = True
        """Whether it keeps to every `response_format`."""
        self.closed = 0
        """Streams that ended, were closed or were cancelled."""
        self._replies = list(replies)
        self._by_prompt = by_prompt or {}

    def of(self, project: ProjectId) -> ModelService:
        return self

    async def probe(self, project: ProjectId, model: str) -> Probed:
        return Probed(model, model, 1.0)

    def health(self, project: ProjectId) -> Sequence[ProviderHealth]:
        return []

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        self.calls.append(call)
        try:
            for item in self._reply(call):
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                else:
                    yield item
        finally:
            self.closed += 1

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        raise EmbeddingModelNotFound(call.model)

    def embedder(self, model: str) -> str:
        raise EmbeddingModelNotFound(model)

    def is_embedder(self, model: str) -> bool:
        return False

    def obeys(self, model: str | None, response_format: Mapping[str, object]) -> bool:
        return self.obedient

    def check(self, model: str | None) -> None:
        if model is not None:
            raise InvalidValue("There is one model.", param="model")

    def _reply(self, call: ModelCall) -> Reply:
        prompt = "\n".join(message.text for message in call.messages)
        for key, reply in self._by_prompt.items():
            if key in prompt:
                return reply
        return self._replies.pop(0)

    def prompt(self, index: int) -> str:
        return "\n".join(message.text for message in self.calls[index].messages)


class ScriptedTools(ToolService):
    """Tools that answer what they are told to; an event is waited for, an exception raised."""

    def __init__(self, **results: str | Exception | asyncio.Event) -> None:
        self.results = results
        self.said_of: dict[str, ToolTraits] = {}
        self.called: list[tuple[str, str]] = []

    def names(self) -> Sequence[str]:
        return sorted(self.results)

    def specs(self, granted: Sequence[str]) -> Sequence[ToolSpec]:
        for name in granted:
            if name not in self.results:
                raise InvalidValue(f"There is no tool '{name}'.", param="tools")
        return [ToolSpec(name, f"Does {name}.", {"type": "object"}) for name in granted]

    def traits(self, name: str) -> ToolTraits:
        return self.said_of.get(name, ToolTraits())

    def problem(self, name: str, arguments: str) -> str | None:
        return None

    async def call(self, name: str, arguments: str) -> ToolOutcome:
        self.called.append((name, arguments))
        result = self.results[name]
        if isinstance(result, Exception):
            raise result
        if isinstance(result, asyncio.Event):
            await result.wait()
            return ToolOutcome("success", "waited")
        return ToolOutcome("success", result)


def an_agent(template: type[BaseAgentTemplate], **config: object) -> Agent:
    ref = TemplateRef(template.template_id, template.template_version)
    return Agent(
        id=new_agent_id(),
        line_id=new_line_id(),
        slug=Slug("bot"),
        number=1,
        project_id=ProjectId("default"),
        owner_id=LOCAL_USER,
        author_id=LOCAL_USER,
        spec=AgentSpec(name="Bot", template=ref, config=config, model=None),
        created_at=WHEN,
        updated_at=WHEN,
    )


def memory_book(store: MemoryStore | None = None, most: int = 1_000) -> MemoryBook:
    uow = partial(memory_unit_of_work, store or MemoryStore(), Published())
    return MemoryBook(uow, lambda: WHEN, most)


def made(
    template: type[T],
    models: ModelService,
    tools: ToolService | None = None,
    memories: MemoryService | None = None,
    /,
    **config: object,
) -> T:
    services = Services(models, tools or BuiltinTools(), memories or memory_book())
    return template.create_instance(an_agent(template, **config), services)


def asks(
    *messages: str | Message, options: GenerationOptions = NO_OPTIONS, stream: bool = True
) -> RunInput:
    said = [Message(ChatRole.USER, each) if isinstance(each, str) else each for each in messages]
    return RunInput(
        run_id=new_run_id(),
        messages=said,
        options=options,
        user_id=LOCAL_USER,
        project_id=ProjectId("default"),
        stream=stream,
    )


async def events_of(instance: BaseAgentTemplate, input: RunInput) -> list[RunEvent]:
    return [event async for event in instance.stream_execute(input)]


def text_of(events: Sequence[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def steps_of(events: Sequence[RunEvent]) -> list[str]:
    """`+name` where a step begins, `-name` where it ends, `!name` where it fails."""
    marks = []
    for event in events:
        if isinstance(event, StepStarted):
            marks.append(f"+{event.name}")
        elif isinstance(event, StepFinished):
            marks.append(("-" if event.status == "success" else "!") + event.name)
    return marks


async def failing(instance: BaseAgentTemplate, input: RunInput) -> tuple[list[RunEvent], Exception]:
    """What a run emits before it fails, and how it fails."""
    events: list[RunEvent] = []

    async def emit(event: RunEvent) -> None:
        events.append(event)

    try:
        await instance.run(input, emit)
    except DomainError as error:
        return events, error
    raise AssertionError("the run did not fail")


class Fixed:
    """An adapter that is there already."""

    def __init__(self, adapter: Provider) -> None:
        self.id = adapter.name
        self._adapter = adapter

    def __call__(self) -> Provider:
        return self._adapter

    async def aclose(self) -> None:
        await self._adapter.aclose()


class ModelsOn(ProjectModels):
    """The real model service on these providers, all of them the operator's."""

    def __init__(
        self,
        adapters: Sequence[Provider],
        default: str,
        *,
        attempts: int = 3,
        backoff_s: float = 0.2,
        monitor: Monitor = UNWATCHED,
        tuning: Tuning = AS_CONFIGURED,
        models: Mapping[str, Sequence[ProviderModel]] | None = None,
    ) -> None:
        tuned = tuning.over(replace(DEFAULTS, attempts=attempts))
        registered = models or {}
        own = [
            LiveProvider(Fixed(adapter), "test", tuned, registered.get(adapter.name, ()))
            for adapter in adapters
        ]
        self.directory = Directory(own, default)
        self.services = PooledModelServices(self.directory, backoff_s=backoff_s, monitor=monitor)
        super().__init__(DEFAULT_PROJECT, self.directory, Attempts(backoff_s), monitor)

    def health(self, project: ProjectId = DEFAULT_PROJECT) -> list[ProviderHealth]:
        return self.services.health(project)

    async def aclose(self) -> None:
        await self.services.aclose()


def statuses(models: ModelsOn) -> dict[str, str]:
    """By provider."""
    return {each.provider: each.status for each in models.health()}
