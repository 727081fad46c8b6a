"""One call of one model: its tries, what it costs, how it ends."""

from collections.abc import AsyncIterator
from dataclasses import replace
from time import perf_counter

import stamina

from runtime.domain.errors import (
    CircuitOpen,
    DomainError,
    ProviderSaturated,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.metering import METER, MeteredCall
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.services.monitor import CallEnd, CallWatch
from runtime.domain.value_objects.chat import NO_USAGE, Usage, estimated_tokens
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.providers.breaker import Outcome
from runtime.infrastructure.providers.live import LiveModel

PATIENCE_S = 10.0
"""A provider that asks to wait longer is not waited for: the caller decides."""
IMPATIENCE_S = 1.0
"""The same where another model can answer instead."""
_LONGEST_BACKOFF_S = 5.0
_FAULTS_OF_PROVIDER = (UpstreamFailed, UpstreamTimeout, UpstreamRateLimited)


class Attempts:
    def __init__(self, backoff_s: float) -> None:
        self._backoff_s = backoff_s

    def of(self, model: LiveModel, *, patient: bool) -> AsyncIterator[stamina.Attempt]:
        """`patient`: nobody else can answer, so that time-outs and long waits are sat out."""
        return aiter(
            stamina.retry_context(
                on=_patiently if patient else _impatiently,
                attempts=model.provider.tuning.attempts,
                timeout=None,
                wait_initial=self._backoff_s,
                wait_max=_LONGEST_BACKOFF_S,
                wait_jitter=self._backoff_s,
            )
        )


class OneCall:
    """`enter` first; then, whatever happens, `end`."""

    __slots__ = (
        "_at_fault",
        "_call",
        "_characters",
        "_entered",
        "_finished",
        "_meter",
        "_metered",
        "_outcome",
        "_probe",
        "_usage",
        "_verdict",
        "first_event_s",
        "model",
        "since",
        "tries",
        "watch",
    )

    def __init__(self, model: LiveModel, watch: CallWatch) -> None:
        self.model = model
        self.watch = watch
        self.since = perf_counter()
        self.tries = 0
        self.first_event_s: float | None = None
        self._call: ModelCall | None = None
        self._meter = METER.get()
        self._metered: MeteredCall | None = None
        self._characters = 0
        self._usage: UsageReported | None = None
        self._finished: ModelFinished | None = None
        self._outcome = "cancelled"
        self._verdict: Outcome = "unknown"
        self._at_fault = False
        self._entered = self._probe = False

    def enter(self) -> None:
        """Raises CircuitOpen, ProviderSaturated."""
        model = self.model
        if model.provider.is_full:
            raise ProviderSaturated(model.provider.id, model.provider.tuning.max_concurrency or 0)
        probe = model.breaker.enter()
        if probe is None:
            raise CircuitOpen(model.name, model.breaker.retry_after_s)
        self._entered, self._probe = True, probe
        model.began()

    def meter(self, call: ModelCall) -> None:
        """Raises BudgetExhausted, ModelUnpriced."""
        self._call = call
        if self._meter:
            self._metered = self._meter.begin(self.model.name, call)

    def streamed(self, characters: int) -> None:
        """Raises BudgetExhausted."""
        self._characters += characters
        if self._metered:
            self._metered.streamed(self._characters)

    def counted(self, report: UsageReported) -> UsageReported:
        self._usage = replace(report, called=self.model.name)
        return self._usage

    def finished(self, event: ModelFinished) -> UsageReported | None:
        """An estimate of the usage where the provider did not count."""
        self._finished, self._outcome, self._verdict = event, "success", "success"
        if self._usage is not None:
            return None
        self._usage = self._estimate(event.model)
        return self._usage

    def embedded(self, made: Embeddings) -> None:
        self._outcome, self._verdict = "success", "success"
        self._usage = UsageReported(made.usage, made.model)

    def failed(self, error: BaseException) -> None:
        if self._finished is not None:
            return
        if isinstance(error, DomainError):
            self._outcome = error.code
            self._verdict = _verdict(error)
            self._at_fault = isinstance(error, _FAULTS_OF_PROVIDER)
        elif isinstance(error, Exception):
            self._outcome = "internal_error"

    def end(self) -> None:
        end = CallEnd(
            self._outcome,
            perf_counter() - self.since,
            self.first_event_s,
            max(0, self.tries - 1),
            self._usage.usage if self._usage else NO_USAGE,
            self._finished.model if self._finished else None,
            self._finished.reason if self._finished else None,
        )
        self.watch.ended(end)
        if self._entered:
            self.model.ended(end, self._verdict, at_fault=self._at_fault, probe=self._probe)
        if self._meter and self._usage is None and self.first_event_s is not None:
            self._usage = self._estimate(self.model.name)
            self._meter.lost(self._usage)
        if self._metered:
            self._metered.ended(self._usage.usage if self._usage else NO_USAGE)

    def _estimate(self, model: str) -> UsageReported:
        messages = self._call.messages if self._call else ()
        asked = sum(message.characters for message in messages)
        usage = Usage(estimated_tokens(asked), estimated_tokens(self._characters))
        return UsageReported(usage, model, estimated=True, called=self.model.name)


def unfinished(model: LiveModel) -> UpstreamFailed:
    return UpstreamFailed(f"The model provider '{model.provider.id}' did not finish its answer.")


def size_of(event: ModelEvent) -> int:
    match event:
        case ReasoningDelta(text) | RefusalDelta(text):
            return len(text)
        case ToolCallDelta():
            return len(event.name) + len(event.arguments)
        case _:
            return 0


def _verdict(error: DomainError) -> Outcome:
    """Only what may pass by itself opens a breaker: a wrong key is no outage."""
    ill = isinstance(error, UpstreamFailed | UpstreamTimeout) and error.retryable
    return "failure" if ill else "unknown"


def _patiently(error: BaseException) -> bool | float:
    return _delay(error, PATIENCE_S)


def _impatiently(error: BaseException) -> bool | float:
    return not isinstance(error, UpstreamTimeout) and _delay(error, IMPATIENCE_S)


def _delay(error: BaseException, longest_s: float) -> bool | float:
    """Whether to try again; a number of seconds where the provider named one."""
    if not isinstance(error, DomainError) or not error.retryable:
        return False
    if isinstance(error, CircuitOpen | ProviderSaturated):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= longest_s else False
