"""Events, API calls and timings of code that runs in the runtime: templates, tools, adapters.

Each is one structured line of the log, which within a run carries the run's id and its trace; where
traces are exported (`OTEL_EXPORTER_OTLP_ENDPOINT`), timings are spans of the run's trace and events
are events on them. Names and shapes follow the service contracts of the specification (document B,
"Monitoring").

    monitor = configure_monitor(service_name="invoices")
    monitor.info("Invoice read", component=ServiceComponent.TOOL_SERVICE, pages=3)

    @with_monitoring(component=ServiceComponent.TOOL_SERVICE)
    async def look_up(number: str) -> Invoice: ...

    with track_performance("rank", ServiceComponent.AGENT_CORE) as span:
        span.add_data({"candidates": 40})

What is given as data is logged as it is: don't give it secrets or what people wrote.
"""

import functools
import inspect
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from enum import IntEnum, StrEnum
from time import perf_counter
from typing import Any, TypeVar, cast

import structlog

F = TypeVar("F", bound=Callable[..., Any])


class ServiceComponent(StrEnum):
    AGENT_CORE = "agent_core"
    MODEL_SERVICE = "model_service"
    TOOL_SERVICE = "tool_service"
    API_GATEWAY = "api_gateway"


class EventType(StrEnum):
    LIFECYCLE = "lifecycle"
    SYSTEM = "system"
    EXCEPTION = "exception"
    API_CALL = "api_call"
    PERFORMANCE = "performance"


class LogLevel(IntEnum):
    """As in `logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


class Monitor:
    """Writes down what a service tells. Nothing here raises for what it is told."""

    def __init__(
        self, labels: Mapping[str, object], min_log_level: LogLevel = LogLevel.INFO
    ) -> None:
        self._log = structlog.get_logger("runtime.events").bind(**labels)
        self._least = min_log_level

    def debug(self, message: str, **event: Any) -> None:  # noqa: ANN401 - data of any kind
        self.record(LogLevel.DEBUG, message, **event)

    def info(self, message: str, **event: Any) -> None:  # noqa: ANN401
        self.record(LogLevel.INFO, message, **event)

    def warning(self, message: str, **event: Any) -> None:  # noqa: ANN401
        self.record(LogLevel.WARNING, message, **event)

    def error(self, message: str, **event: Any) -> None:  # noqa: ANN401
        self.record(LogLevel.ERROR, message, **event)

    def critical(self, message: str, **event: Any) -> None:  # noqa: ANN401
        self.record(LogLevel.CRITICAL, message, **event)

    def record(
        self,
        level: LogLevel,
        message: str,
        *,
        component: ServiceComponent = ServiceComponent.AGENT_CORE,
        event_type: EventType = EventType.SYSTEM,
        **data: Any,  # noqa: ANN401
    ) -> None:
        if level < self._least:
            return
        fields = {"component": component.value, "event_type": event_type.value, "data": data}
        self._log.log(int(level), message, **fields)
        get_current_span().add_event(message, {"component": component.value, **data})

    def record_api_call(
        self,
        api_name: str,
        *,
        status_code: int,
        duration_ms: float,
        component: ServiceComponent = ServiceComponent.MODEL_SERVICE,
        request_data: Mapping[str, object] | None = None,
        response_data: Mapping[str, object] | None = None,
    ) -> None:
        """A call of somebody else's service; from 400 on it is a warning, from 500 on an error."""
        level = LogLevel.INFO if status_code < 400 else LogLevel.WARNING
        self.record(
            LogLevel.ERROR if status_code >= 500 else level,
            api_name,
            component=component,
            event_type=EventType.API_CALL,
            status_code=status_code,
            duration_ms=round(duration_ms, 1),
            request=dict(request_data or {}),
            response=dict(response_data or {}),
        )


class Span:
    """Something that takes time. Its data is told when it ends."""

    def __init__(self, name: str, traced: Any = None) -> None:  # noqa: ANN401 - OpenTelemetry's
        self.name = name
        self.data: dict[str, Any] = {}
        self._traced = traced

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where nothing is traced."""
        return f"{self._traced.get_span_context().trace_id:032x}" if self._traced else ""

    @property
    def span_id(self) -> str:
        return f"{self._traced.get_span_context().span_id:016x}" if self._traced else ""

    def add_data(self, data: Mapping[str, Any]) -> None:
        self.data.update(data)
        if self._traced:
            self._traced.set_attributes({name: _plain(value) for name, value in data.items()})

    def add_event(self, name: str, data: Mapping[str, Any]) -> None:
        if self._traced:
            plain = {key: _plain(value) for key, value in data.items()}
            self._traced.add_event(name, plain)


TRACER: ContextVar[Any] = ContextVar("tracer", default=None)
"""OpenTelemetry's, where the run that goes on in this context is traced."""
_monitor: ContextVar[Monitor] = ContextVar("monitor", default=Monitor({}))  # noqa: B039 - it has no state
_span: ContextVar[Span | None] = ContextVar("span", default=None)


def configure_monitor(
    service_name: str,
    *,
    environment: str | None = None,
    version: str | None = None,
    min_log_level: LogLevel = LogLevel.INFO,
) -> Monitor:
    """A monitor whose lines name the service; the one that `track_performance` and
    `with_monitoring` use from here on, in this context.

    Where the lines and spans go is the operator's to say: the runtime's log settings and
    `OTEL_EXPORTER_OTLP_ENDPOINT`, which may be Logfire or any other collector.
    """
    named = {"service": service_name, "environment": environment, "version": version}
    labels = {name: value for name, value in named.items() if value is not None}
    monitor = Monitor(labels, min_log_level)
    _monitor.set(monitor)
    return monitor


@contextmanager
def track_performance(
    name: str, component: ServiceComponent = ServiceComponent.AGENT_CORE
) -> Iterator[Span]:
    """Tells how long the block took, and whether it failed. What it raises goes on."""
    with _traced(name) as traced:
        span = Span(name, traced)
        token = _span.set(span)
        try:
            with _timed(span, component):
                yield span
        finally:
            _span.reset(token)


create_trace_context = track_performance
"""The same under the name that calls across services go by."""


def get_current_span() -> Span:
    """The innermost of this task; else what the runtime itself traces there."""
    return _span.get() or Span("current", _current_traced())


def set_span_attribute(name: str, value: object) -> None:
    get_current_span().add_data({name: value})


def with_monitoring(
    component: ServiceComponent = ServiceComponent.AGENT_CORE,
) -> Callable[[F], F]:
    """For functions, coroutine functions and asynchronous generators: each call is tracked."""

    def decorate(function: F) -> F:
        name = function.__qualname__
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def generated(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:  # noqa: ANN401
                # Not the current span: between its items the caller's own work goes on.
                with _timed(Span(name), component):
                    async with aclosing(function(*args, **kwargs)) as items:
                        async for each in items:
                            yield each

            return cast(F, generated)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
                with track_performance(name, component):
                    return await function(*args, **kwargs)

            return cast(F, awaited)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with track_performance(name, component):
                return function(*args, **kwargs)

        return cast(F, called)

    return decorate


@contextmanager
def _timed(span: Span, component: ServiceComponent) -> Iterator[None]:
    since = perf_counter()
    kind, level = EventType.PERFORMANCE, LogLevel.INFO
    told: dict[str, object] = {}
    try:
        yield
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind, level = EventType.EXCEPTION, LogLevel.ERROR
        told = {"error_type": type(error).__name__, "function": where.name, "line": where.lineno}
        raise
    finally:
        told |= {**span.data, "duration_ms": round((perf_counter() - since) * 1_000, 1)}
        _monitor.get().record(level, span.name, component=component, event_type=kind, **told)


@contextmanager
def _traced(name: str) -> Iterator[Any]:
    tracer = TRACER.get()
    if tracer is None:
        yield None
        return
    # The text of an exception may hold what people wrote.
    with tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def _current_traced() -> Any:  # noqa: ANN401
    if TRACER.get() is None:
        return None
    from opentelemetry import trace

    return trace.get_current_span()


def _plain(value: object) -> object:
    """What OpenTelemetry takes as an attribute."""
    return value if isinstance(value, str | bool | int | float) else repr(value)
