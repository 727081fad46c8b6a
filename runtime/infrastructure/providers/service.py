from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import perf_counter

import stamina
import stamina.instrumentation

from runtime.domain.errors import (
    DomainError,
    EmbeddingModelNotFound,
    InvalidValue,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.metering import METER
from runtime.domain.services.models import (
    EmbeddingCall,
    ModelCall,
    ModelEvent,
    ModelFinished,
    ProviderHealth,
)
from runtime.domain.services.monitor import UNWATCHED, CallEnd, Monitor
from runtime.domain.value_objects.chat import NO_USAGE, Usage, estimated_tokens
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.providers.base import EmbeddingProvider, Provider
from runtime.infrastructure.providers.formats import put_into_words

PATIENCE_S = 10.0
"""A provider that asks to wait longer is not waited for: the caller decides."""
_LONGEST_BACKOFF_S = 5.0
_FAULTS_OF_PROVIDER = (UpstreamFailed, UpstreamTimeout, UpstreamRateLimited)


class PooledModelService:
    """Finds the provider of a model, and is the one place where a model call is repeated."""

    def __init__(
        self,
        providers: Sequence[Provider],
        default_model: str,
        *,
        attempts: int = 3,
        backoff_s: float = 0.2,
        monitor: Monitor = UNWATCHED,
    ) -> None:
        """`backoff_s` is the first wait, doubled every time; up to twice as long by jitter.

        Raises InvalidValue when no provider serves `default_model`.
        """
        # Stamina's own hooks write a warning a retry and register process-wide counters.
        stamina.instrumentation.set_on_retry_hooks(())
        self._providers = {provider.name: provider for provider in providers}
        self._default_model = default_model
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._monitor = monitor
        self._failing: set[str] = set()
        self.check(None)

    def check(self, model: str | None) -> None:
        self._resolve(model)

    def obeys(self, model: str | None, response_format: Mapping[str, object]) -> bool:
        provider, _ = self._resolve(model)
        return response_format.get("type") in provider.formats

    def health(self) -> list[ProviderHealth]:
        return [
            ProviderHealth(name, "degraded" if name in self._failing else "healthy")
            for name in self._providers
        ]

    async def aclose(self) -> None:
        for provider in self._providers.values():
            await provider.aclose()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        provider, model = self._resolve(call.model)
        watch = self._monitor.model_call(provider.name, model, call.options, stream=call.stream)
        if watch.headers:
            call = replace(call, headers=watch.headers)
        if call.options.response_format:
            call = put_into_words(call, provider.formats)
        tally = _Tally()
        called = f"{provider.name}/{model}"
        meter = METER.get()
        metered = None
        characters = 0
        try:
            if meter:
                metered = meter.begin(called, call)
            events, event = await self._begin(provider, call, model, tally)
            async with aclosing(events):
                step = events.__anext__
                while True:
                    kind = type(event)
                    if kind is TextDelta:
                        characters += len(event.text)  # type: ignore[union-attr] # by `kind`
                        if metered:
                            metered.streamed(characters)
                    elif isinstance(event, UsageReported):
                        tally.usage = event = replace(event, called=called)
                    elif isinstance(event, ModelFinished):
                        self._failing.discard(provider.name)
                        if tally.usage is None:
                            tally.usage = _estimate(call, characters, event.model, called)
                            yield tally.usage
                        tally.finished, tally.outcome = event, "success"
                        yield event
                        return
                    else:
                        characters += _size(event)
                        if metered:
                            metered.streamed(characters)
                    yield event
                    event = await step()
        except StopAsyncIteration:
            self._failing.add(provider.name)
            error = _unfinished(provider)
            tally.outcome = error.code
            raise error from None
        except DomainError as error:
            self._note(provider.name, error, tally)
            raise
        except Exception:
            tally.outcome = "internal_error"
            raise
        finally:
            watch.ended(tally.end())
            if meter and tally.usage is None and tally.first_event_s is not None:
                tally.usage = _estimate(call, characters, called, called)
                meter.lost(tally.usage)
            if metered:
                metered.ended(tally.usage.usage if tally.usage else NO_USAGE)

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        name, provider, model = self._embedder(call.model)
        watch = self._monitor.embedding_call(name, model)
        if watch.headers:
            call = replace(call, headers=watch.headers)
        tally = _Tally()
        try:
            async for attempt in self._tries():
                with attempt:
                    tally.attempts += 1
                    made = await provider.embed(call, model)
                    tally.outcome = "success"
                    tally.usage = UsageReported(made.usage, made.model)
                    self._failing.discard(name)
                    return made
            raise AssertionError("the last attempt returns or raises")
        except DomainError as error:
            self._note(name, error, tally)
            raise
        except Exception:
            tally.outcome = "internal_error"
            raise
        finally:
            watch.ended(tally.end())

    def embedder(self, model: str) -> str:
        name, _, its_model = self._embedder(model)
        return f"{name}/{its_model}"

    def is_embedder(self, model: str) -> bool:
        name = model.partition("/")[0]
        default = self._resolve(None)[0]
        known = default.embedding_models if isinstance(default, EmbeddingProvider) else ()
        return name in self._providers or model in known

    def _embedder(self, model: str) -> tuple[str, EmbeddingProvider, str]:
        """Raises EmbeddingModelNotFound."""
        name, slash, rest = model.partition("/")
        if name not in self._providers and not slash:
            name, rest = self._resolve(None)[0].name, model
        provider = self._providers.get(name)
        if not isinstance(provider, EmbeddingProvider) or (slash and not rest):
            raise EmbeddingModelNotFound(model)
        return name, provider, rest or provider.default_embedding_model

    def _note(self, name: str, error: DomainError, tally: "_Tally") -> None:
        if isinstance(error, _FAULTS_OF_PROVIDER):
            self._failing.add(name)
        tally.outcome = error.code

    def _resolve(self, model: str | None) -> tuple[Provider, str]:
        name, slash, rest = (model or self._default_model).partition("/")
        provider = self._providers.get(name)
        if provider is None or (slash and not rest):
            raise InvalidValue(
                f"No provider serves the model '{model or self._default_model}'. "
                f"Write 'provider/name'; the providers are: {', '.join(self._providers)}.",
                param="llm_config_id",
                details={"providers": list(self._providers)},
            )
        return provider, rest or provider.default_model

    async def _begin(
        self, provider: Provider, call: ModelCall, model: str, tally: "_Tally"
    ) -> tuple[AsyncGenerator[ModelEvent], ModelEvent]:
        """The stream and its first event: until there is one, nothing is lost by trying again."""
        async for attempt in self._tries():
            with attempt:
                tally.attempts += 1
                events = provider.stream(call, model)
                first = await anext(events)
                tally.first_event_s = perf_counter() - tally.since
                return events, first
        # The retry loop just ends when a stream does so before its first event.
        raise _unfinished(provider)

    def _tries(self) -> AsyncIterator[stamina.Attempt]:
        return aiter(
            stamina.retry_context(
                on=_delay,
                attempts=self._attempts,
                timeout=None,
                wait_initial=self._backoff_s,
                wait_max=_LONGEST_BACKOFF_S,
                wait_jitter=self._backoff_s,
            )
        )


@dataclass(slots=True)
class _Tally:
    """What is known of a call when it ends."""

    since: float = field(default_factory=perf_counter)
    attempts: int = 0
    first_event_s: float | None = None
    usage: UsageReported | None = None
    finished: ModelFinished | None = None
    outcome: str = "cancelled"

    def end(self) -> CallEnd:
        return CallEnd(
            self.outcome,
            perf_counter() - self.since,
            self.first_event_s,
            max(0, self.attempts - 1),
            self.usage.usage if self.usage else NO_USAGE,
            self.finished.model if self.finished else None,
            self.finished.reason if self.finished else None,
        )


def _delay(error: BaseException) -> bool | float:
    """Whether to try again; a number of seconds where the provider named one."""
    if not isinstance(error, DomainError) or not error.retryable:
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= PATIENCE_S else False


def _unfinished(provider: Provider) -> UpstreamFailed:
    return UpstreamFailed(f"The model provider '{provider.name}' did not finish its answer.")


def _size(event: ModelEvent) -> int:
    match event:
        case ReasoningDelta(text) | RefusalDelta(text):
            return len(text)
        case ToolCallDelta():
            return len(event.name) + len(event.arguments)
        case _:
            return 0


def _estimate(call: ModelCall, characters: int, model: str, called: str) -> UsageReported:
    asked = sum(message.characters for message in call.messages)
    usage = Usage(input_tokens=estimated_tokens(asked), output_tokens=estimated_tokens(characters))
    return UsageReported(usage, model, estimated=True, called=called)
