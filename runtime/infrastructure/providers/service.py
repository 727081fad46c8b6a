"""The model service: from the name of a model to its answer, whatever its providers do.

The one place where a call is repeated, passed on to another model, or not made at all.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter

import stamina
import stamina.instrumentation

from runtime.domain.errors import (
    CircuitOpen,
    DomainError,
    EmbeddingModelNotFound,
    Invalid,
    InvalidValue,
    ModelDisabled,
    ProviderSaturated,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from runtime.domain.events.base import Event
from runtime.domain.events.runs import TextDelta, UsageReported
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
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.domain.value_objects.ids import ProjectId
from runtime.infrastructure.providers.attempts import Attempts, OneCall, size_of, unfinished
from runtime.infrastructure.providers.base import EmbeddingProvider
from runtime.infrastructure.providers.directory import Directory
from runtime.infrastructure.providers.formats import put_into_words
from runtime.infrastructure.providers.live import LiveModel, kept
from runtime.infrastructure.providers.probe import probe

_PASSED_ON = (
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamRateLimited,
    CircuitOpen,
    ProviderSaturated,
)
"""What another model may do better; what the provider finds wrong with the request is not."""


class PooledModelServices(ModelServices):
    """One for the process; `of` is a project's view of it."""

    def __init__(
        self, directory: Directory, *, backoff_s: float = 0.2, monitor: Monitor = UNWATCHED
    ) -> None:
        """`backoff_s` is the first wait, doubled every time; up to twice as long by jitter."""
        # Stamina's own hooks write a warning a retry and register process-wide counters.
        stamina.instrumentation.set_on_retry_hooks(())
        self._directory = directory
        self._attempts = Attempts(backoff_s)
        self._monitor = monitor

    def of(self, project: ProjectId) -> "ProjectModels":
        return ProjectModels(project, self._directory, self._attempts, self._monitor)

    async def probe(self, project: ProjectId, model: str) -> Probed:
        # Another replica may have changed it just now.
        await self._directory.load()
        tried = self._directory.model(project, model)
        with kept([tried]):
            return await probe(tried)

    def health(self, project: ProjectId) -> list[ProviderHealth]:
        return [each.health() for each in self._directory.providers(project)]

    def every_health(self) -> list[ProviderHealth]:
        """Of every project's providers."""
        return [each.health() for each in self._directory.every_provider]

    async def start(self) -> None:
        """Raises what Directory.start raises."""
        await self._directory.start()

    async def reload(self, _: Event | None = None) -> None:
        """A provider was registered, changed or removed. Raises DatabaseUnavailable."""
        await self._directory.load()

    async def aclose(self) -> None:
        await self._directory.aclose()


class ProjectModels(ModelService):
    def __init__(
        self, project: ProjectId, directory: Directory, attempts: Attempts, monitor: Monitor
    ) -> None:
        self._project = project
        self._directory = directory
        self._attempts = attempts
        self._monitor = monitor

    def check(self, model: str | None) -> None:
        self._directory.model(self._project, model)

    def obeys(self, model: str | None, response_format: Mapping[str, object]) -> bool:
        """Every model that may come to answer."""
        kind = response_format.get("type")
        route = self._directory.route(self._project, model)
        return bool(route) and all(kind in each.formats for each in route)

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        route = self._route(call)
        with kept(route):
            one, events, event = await self._begin(route, call)
        try:
            async with aclosing(events):
                step = events.__anext__
                while True:
                    kind = type(event)
                    if kind is TextDelta:
                        one.streamed(len(event.text))  # type: ignore[union-attr] # by `kind`
                    elif isinstance(event, UsageReported):
                        event = one.counted(event)
                    elif isinstance(event, ModelFinished):
                        estimate = one.finished(event)
                        if estimate is not None:
                            yield estimate
                        yield event
                        return
                    else:
                        one.streamed(size_of(event))
                    yield event
                    event = await step()
        except StopAsyncIteration:
            error = unfinished(one.model)
            one.failed(error)
            raise error from None
        except BaseException as error:
            one.failed(error)
            raise
        finally:
            one.end()

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        model, provider = self._embedder(call.model)
        watch = self._monitor.embedding_call(model.provider.id, model.spec.name)
        one = OneCall(model, watch)
        try:
            one.enter()
            call = replace(call, headers=watch.headers) if watch.headers else call
            async for attempt in self._attempts.of(model, patient=True):
                with attempt:
                    one.tries += 1
                    made = await provider.embed(call, model.spec.upstream_name)
                    one.embedded(made)
                    return made
            raise AssertionError("the last attempt returns or raises")
        except BaseException as error:
            one.failed(error)
            raise
        finally:
            one.end()

    def embedder(self, model: str) -> str:
        return self._embedder(model)[0].name

    def is_embedder(self, model: str) -> bool:
        name = model.partition("/")[0]
        if self._directory.find(self._project, name):
            return True
        default = self._directory.model(self._project, None).provider.adapter
        return isinstance(default, EmbeddingProvider) and model in default.embedding_models

    def _embedder(self, model: str) -> tuple[LiveModel, EmbeddingProvider]:
        """Raises EmbeddingModelNotFound, ModelDisabled."""
        name, slash, rest = model.partition("/")
        provider = self._directory.find(self._project, name)
        if provider is None and not slash:
            provider, rest = self._directory.model(self._project, None).provider, model
        adapter = provider.adapter if provider else None
        if provider is None or not isinstance(adapter, EmbeddingProvider) or (slash and not rest):
            raise EmbeddingModelNotFound(model)
        live = provider.model(rest or adapter.default_embedding_model)
        if live.spec.capabilities.embeddings is False:
            raise EmbeddingModelNotFound(model)
        if not live.enabled:
            raise ModelDisabled(live.name)
        return live, adapter

    def _route(self, call: ModelCall) -> list[LiveModel]:
        """Who may answer this call. Raises InvalidValue, ModelDisabled."""
        route = self._directory.route(self._project, call.model)
        if not route:
            raise ModelDisabled(self._directory.model(self._project, call.model).name)
        able = [model for model in route if model.lacks(call) is None]
        if not able:
            lacking = route[0].lacks(call)
            raise InvalidValue(
                f"The model '{route[0].name}' can't take what '{lacking}' asks of it.",
                param=lacking,
            )
        return able

    async def _begin(
        self, route: Sequence[LiveModel], call: ModelCall
    ) -> tuple[OneCall, AsyncGenerator[ModelEvent], ModelEvent]:
        """The first model that says something. Raises what the last one failed with, or the one
        before it where that one was not even called."""
        cause: DomainError | None = None
        for place, model in enumerate(route, 1):
            others = route[place:]
            options, stream = (
                call.options,
                call.stream and model.spec.capabilities.streaming is not False,
            )
            watch = self._monitor.model_call(
                model.provider.id, model.spec.name, options, stream=stream
            )
            one = OneCall(model, watch)
            try:
                one.enter()
                events, first = await self._first(
                    one,
                    _sent(call, one, stream),
                    patient=not any(other.admits for other in others),
                )
            except BaseException as error:
                one.failed(error)
                one.end()
                if cause is not None and isinstance(error, Invalid):
                    # It is the fallback that has no words for the request, not the request.
                    error = cause
                if not isinstance(error, _PASSED_ON):
                    raise
                called = not isinstance(error, CircuitOpen | ProviderSaturated)
                cause = error if called or cause is None else cause
                if not others:
                    raise cause from None
                model.calls.fallbacks += 1
                self._monitor.fell_back(model.provider.id, model.spec.name, error)
                continue
            return one, events, first
        raise AssertionError("the last model answers or raises")

    async def _first(
        self, one: OneCall, call: ModelCall, *, patient: bool
    ) -> tuple[AsyncGenerator[ModelEvent], ModelEvent]:
        """The stream and its first event: until there is one, nothing is lost by trying again."""
        one.meter(call)
        async for attempt in self._attempts.of(one.model, patient=patient):
            with attempt:
                one.tries += 1
                events = one.model.provider.adapter.stream(call, one.model.spec.upstream_name)
                first = await anext(events)
                one.first_event_s = perf_counter() - one.since
                return events, first
        # The retry loop just ends when a stream does so before its first event.
        raise unfinished(one.model)


def _sent(call: ModelCall, one: OneCall, stream: bool) -> ModelCall:
    if one.watch.headers or stream is not call.stream:
        call = replace(call, headers=one.watch.headers, stream=stream)
    if call.options.response_format:
        call = put_into_words(call, one.model.formats)
    return call
