"""What templates and tools tell of themselves."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs
from structlog.typing import EventDict

from runtime.monitoring import (
    TRACER,
    EventType,
    LogLevel,
    ServiceComponent,
    configure_monitor,
    create_trace_context,
    get_current_span,
    set_span_attribute,
    track_performance,
    with_monitoring,
)


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    token = TRACER.set(provider.get_tracer("test"))
    yield exporter
    TRACER.reset(token)


def only(lines: list[EventDict]) -> EventDict:
    (line,) = lines
    return line


def test_an_event_names_its_service_component_and_type() -> None:
    monitor = configure_monitor("invoices", environment="production", version="1.0.0")
    with capture_logs() as lines:
        monitor.warning(
            "Rate limit approaching",
            component=ServiceComponent.MODEL_SERVICE,
            event_type=EventType.SYSTEM,
            current_rate=90,
        )
    assert only(lines) == {
        "event": "Rate limit approaching",
        "log_level": "warning",
        "service": "invoices",
        "environment": "production",
        "version": "1.0.0",
        "component": "model_service",
        "event_type": "system",
        "data": {"current_rate": 90},
    }


def test_what_is_below_the_level_is_not_told() -> None:
    monitor = configure_monitor("invoices", min_log_level=LogLevel.ERROR)
    with capture_logs() as lines:
        monitor.info("started")
        monitor.error("stopped")
    assert [line["event"] for line in lines] == ["stopped"]


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (404, "warning"), (503, "error")])
def test_an_api_call_is_as_bad_as_its_status(status: int, level: str) -> None:
    monitor = configure_monitor("invoices")
    with capture_logs() as lines:
        monitor.record_api_call(
            "look_up", status_code=status, duration_ms=12.345, response_data={"length": 3}
        )
    line = only(lines)
    assert (line["log_level"], line["event_type"]) == (level, "api_call")
    assert line["data"]["duration_ms"] == 12.3


def test_a_block_is_timed_with_what_it_adds() -> None:
    configure_monitor("invoices")
    with (
        capture_logs() as lines,
        track_performance("rank", ServiceComponent.AGENT_CORE) as span,
    ):
        span.add_data({"candidates": 40})
        set_span_attribute("kept", 3)
    line = only(lines)
    assert (line["event"], line["event_type"]) == ("rank", "performance")
    assert line["data"].keys() == {"candidates", "kept", "duration_ms"}


def test_a_block_that_fails_tells_the_kind_of_error_and_not_its_text() -> None:
    configure_monitor("invoices")
    with (
        capture_logs() as lines,
        pytest.raises(ValueError, match="somebody"),
        track_performance("rank"),
    ):
        raise ValueError("somebody's secret")
    line = only(lines)
    assert (line["event_type"], line["data"]["error_type"]) == ("exception", "ValueError")
    assert "secret" not in repr(line)


async def test_functions_coroutines_and_generators_can_be_watched() -> None:
    configure_monitor("invoices")

    @with_monitoring(component=ServiceComponent.TOOL_SERVICE)
    def plain(number: int) -> int:
        return number + 1

    @with_monitoring()
    async def awaited() -> str:
        await asyncio.sleep(0)
        return "done"

    @with_monitoring()
    async def items() -> AsyncGenerator[int]:
        yield 1
        yield 2

    with capture_logs() as lines:
        assert plain(1) == 2
        assert await awaited() == "done"
        async with aclosing(items()) as some:
            assert [each async for each in some] == [1, 2]
    assert [line["event"].rsplit(".", 1)[-1] for line in lines] == ["plain", "awaited", "items"]
    assert plain.__name__ == "plain"


async def test_a_generator_that_is_left_early_is_closed_and_timed() -> None:
    configure_monitor("invoices")
    closed = []

    @with_monitoring()
    async def items() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    with capture_logs() as lines:
        async with aclosing(items()) as some:
            await anext(some)
    assert closed == [True]
    assert only(lines)["event_type"] == "performance"


def test_where_a_run_is_traced_blocks_are_spans_and_events_are_on_them(
    exported: InMemorySpanExporter,
) -> None:
    monitor = configure_monitor("invoices")
    with create_trace_context("outer", ServiceComponent.API_GATEWAY) as outer:
        with track_performance("inner") as inner:
            monitor.info("half way", pages=[1, 2])
            assert get_current_span() is inner
        assert inner.trace_id == outer.trace_id != ""
        assert inner.span_id != outer.span_id
    first, second = exported.get_finished_spans()
    assert (first.name, second.name) == ("inner", "outer")
    assert first.parent is not None
    assert next(event.name for event in first.events) == "half way"


def test_what_a_block_raises_is_not_in_its_span(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="somebody"), track_performance("rank"):
        raise ValueError("somebody's secret")
    assert "secret" not in exported.get_finished_spans()[0].to_json()


def test_without_a_trace_there_is_nothing_to_continue() -> None:
    structlog.contextvars.clear_contextvars()
    span = get_current_span()
    assert (span.trace_id, span.span_id) == ("", "")
