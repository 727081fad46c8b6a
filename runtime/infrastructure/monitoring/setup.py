"""What watches this app, as its settings want it."""

from typing import TYPE_CHECKING, Optional

from runtime.application.services.run_statistics import RunStatistics
from runtime.domain.errors import InvalidValue
from runtime.domain.services.monitor import Monitor
from runtime.infrastructure.monitoring.log import RunLog
from runtime.infrastructure.monitoring.prometheus import PrometheusMonitor
from runtime.infrastructure.monitoring.several import Monitors

if TYPE_CHECKING:
    from runtime.infrastructure.monitoring.tracing import Tracing


def tracing(endpoint: str) -> Optional["Tracing"]:
    """Raises InvalidValue when traces are wanted and the extra is not installed."""
    if not endpoint:
        return None
    try:
        from runtime.infrastructure.monitoring.tracing import Tracing
    except ModuleNotFoundError as error:
        raise InvalidValue(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, which need an extra: "
            "pip install 'agent-runtime[otel]', or unset it."
        ) from error
    return Tracing(endpoint)


def monitor(
    metrics: PrometheusMonitor, statistics: RunStatistics, traces: Optional["Tracing"]
) -> Monitor:
    always: list[Monitor] = [RunLog(), metrics, statistics]
    return Monitors([*always, traces] if traces else always)


class RequestWatch:
    """For the web layer, which sees requests, not runs."""

    def __init__(self, metrics: PrometheusMonitor, traces: Optional["Tracing"]) -> None:
        self._metrics = metrics
        self._traces = traces

    def began(self, traceparent: str | None) -> None:
        if traceparent and self._traces:
            self._traces.continued(traceparent)

    def ended(self, method: str, route: str, status: int, duration_s: float) -> None:
        self._metrics.request(method, route, status, duration_s)
