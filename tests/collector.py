"""An OTLP/HTTP collector that keeps the spans it is sent."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.upstream import FakeUpstream
from tests.upstream.wire import Exchange


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    id: str
    parent_id: str
    kind: int
    failed: bool
    message: str
    attributes: dict[str, object]
    events: int
    duration_s: float

    @classmethod
    def of(cls, span: trace_pb2.Span) -> "ReceivedSpan":
        return cls(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            span.status.message,
            _plain(span.attributes),
            len(span.events),
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        )


class Collector(FakeUpstream):
    """With `hang` it takes requests and does not answer before it is released."""

    def __init__(self, *, hang: bool = False) -> None:
        super().__init__()
        self.spans: list[ReceivedSpan] = []
        self.resource: dict[str, object] = {}
        self.released = asyncio.Event()
        if not hang:
            self.released.set()
        self.raw = b""
        self._more = asyncio.Event()

    @property
    def endpoint(self) -> str:
        return self.base_url.removesuffix("/v1")

    async def behaviour(self, exchange: Exchange) -> None:
        assert exchange.request.path == "/v1/traces"
        await self.released.wait()
        self.raw += exchange.request.body
        for resource in ExportTraceServiceRequest.FromString(exchange.request.body).resource_spans:
            self.resource = _plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [ReceivedSpan.of(span) for span in scope.spans]
        self._more.set()
        answer = ExportTraceServiceResponse().SerializeToString()
        await exchange.respond(200, answer, {"Content-Type": "application/x-protobuf"})

    async def after(self, runs: int) -> list[ReceivedSpan]:
        """All spans once so many runs are there: a run's own span ends after all below it."""
        async with asyncio.timeout(20):
            while sum(span.name.startswith("invoke_agent") for span in self.spans) < runs:
                self._more.clear()
                await self._more.wait()
        return self.spans


def _plain(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    assert kind
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
