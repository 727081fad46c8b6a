"""OpenTelemetry traces, named after the GenAI semantic conventions 1.41 (gen-ai-spans.md,
gen-ai-agent-spans.md): `invoke_agent` for a run, under it `chat` for each model call and
`execute_tool` for each tool call; `embeddings` for a call that embeds. No span
holds a message, an argument, a result or the text of an error.

Imported only when traces are wanted: the SDK is an extra.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from typing import Literal

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from structlog.contextvars import bind_contextvars

from runtime import __version__
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.services.monitor import CallEnd, CallWatch, RunWatch, Unwatched
from runtime.domain.value_objects.chat import GenerationOptions, Usage
from runtime.domain.value_objects.ids import RunId
from runtime.monitoring import TRACER

logger = logging.getLogger(__name__)

FLUSH_S = 5.0
"""How long the runtime, when it stops, waits for the collector."""
CANCELLED = "cancelled"
_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing(Unwatched):
    """Spans are exported by a thread of the SDK's, from a queue that drops what does not fit."""

    def __init__(self, endpoint: str, flush_s: float = FLUSH_S) -> None:
        """`endpoint` is the collector's base URL, for OTLP over HTTP."""
        self._flush_s = flush_s
        name = os.environ.get("OTEL_SERVICE_NAME") or "agent-runtime"
        resource = Resource.create({"service.name": name, "service.version": __version__})
        # Not at exit: that would wait for half a minute, and `aclose` comes before it.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("agent-runtime", __version__)

    def continued(self, traceparent: str) -> None:
        """What the current task does from here on belongs to the caller's trace."""
        caller = _PROPAGATOR.extract({"traceparent": traceparent})
        parent = trace.get_current_span(caller).get_span_context()
        if parent.is_valid:
            context.attach(caller)
            bind_contextvars(trace_id=format_trace_id(parent.trace_id))

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        span = self._tracer.start_span(
            f"invoke_agent {agent.slug}",
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.id": agent.id,
                "gen_ai.agent.name": str(agent.slug),
                "gen_ai.agent.version": agent.version,
                "agent_runtime.run.id": id,
                "agent_runtime.agent.type": agent.spec.agent_type,
                "agent_runtime.template": str(agent.spec.template),
            },
        )
        context.attach(trace.set_span_in_context(span))
        TRACER.set(self._tracer)
        ids = span.get_span_context()
        bind_contextvars(
            trace_id=format_trace_id(ids.trace_id), span_id=format_span_id(ids.span_id)
        )
        return _RunSpan(self._tracer, span)

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        asked = {
            "gen_ai.request.temperature": options.temperature,
            "gen_ai.request.top_p": options.top_p,
            "gen_ai.request.max_tokens": options.token_limit,
            "gen_ai.request.seed": options.seed,
            "gen_ai.request.frequency_penalty": options.frequency_penalty,
            "gen_ai.request.presence_penalty": options.presence_penalty,
        }
        span = self._tracer.start_span(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": stream,
                **{name: value for name, value in asked.items() if value is not None},
            },
        )
        return _CallSpan(span)

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        span = self._tracer.start_span(
            f"embeddings {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model,
            },
        )
        return _CallSpan(span)

    async def aclose(self) -> None:
        """Send what is left, as far as the collector takes it in time."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # The loop did not wait for it and is closed.
                loop.call_soon_threadsafe(stopped.set)

        # A daemon, not the loop's executor: that one would hold the process until it is done.
        Thread(target=stop, name="traces-flush", daemon=True).start()
        try:
            async with asyncio.timeout(self._flush_s):
                await stopped.wait()
        except TimeoutError:
            logger.warning("the collector did not take the last traces within %g s", self._flush_s)


class _RunSpan(RunWatch):
    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._tools: dict[str, Span] = {}

    def tool_called(self, call_id: str, name: str) -> None:
        self._end_tool(call_id, CANCELLED)
        self._tools[call_id] = self._tracer.start_span(
            f"execute_tool {name}",
            context=trace.set_span_in_context(self._span),
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.id": call_id,
                "gen_ai.tool.type": "function",
            },
        )

    def tool_returned(self, call_id: str, status: Literal["success", "error"]) -> None:
        self._end_tool(call_id, None if status == "success" else "tool_error")

    def ended(self, run: Run) -> None:
        for call_id in list(self._tools):
            self._end_tool(call_id, CANCELLED)
        span = self._span
        span.set_attributes(_usage(run.usage))
        if run.session_id:
            span.set_attribute("gen_ai.conversation.id", run.session_id)
        if run.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [run.finish_reason])
        match run.status:
            case RunStatus.FAILED:
                _fail(span, run.error_code or "_OTHER")
            case RunStatus.CANCELLED:
                _fail(span, CANCELLED)
        span.end()

    def _end_tool(self, call_id: str, error: str | None) -> None:
        span = self._tools.pop(call_id, None)
        if span is None:
            return
        if error:
            _fail(span, error)
        span.end()


class _CallSpan(CallWatch):
    def __init__(self, span: Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        # What other vendors put into `tracestate` is not for a model's provider.
        self._headers = {"traceparent": carrier["traceparent"]} if carrier else {}

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def ended(self, end: CallEnd) -> None:
        span = self._span
        if end.outcome != "success":
            _fail(span, end.outcome)
        span.set_attributes(_usage(end.usage))
        span.set_attribute("agent_runtime.retries", end.retries)
        if end.first_event_s is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", end.first_event_s)
        if end.model:
            span.set_attribute("gen_ai.response.model", end.model)
        if end.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [end.finish_reason])
        span.end()


def _usage(usage: Usage) -> dict[str, AttributeValue]:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
