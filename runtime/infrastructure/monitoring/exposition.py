"""The text of `/metrics`: what was counted, and what the parts are like at that moment."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from runtime.application.services.admission import Admission
from runtime.application.services.durable.caretaker import AT_ONCE, Caretaker
from runtime.application.services.durable.worker import Worker
from runtime.application.services.instances import InstanceCache
from runtime.application.services.recorder import RunRecorder
from runtime.application.services.session_holds import SessionDesk
from runtime.domain.services.models import ModelHealth, ProviderHealth
from runtime.domain.services.templates import TemplateCatalog
from runtime.domain.value_objects.providers import BreakerState

MOST_VALUES = 200
"""Models of one provider that have a gauge of their own."""
_BREAKER: Mapping[BreakerState, float] = {"closed": 0, "half_open": 0.5, "open": 1}
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text"


@dataclass(frozen=True)
class Present:
    admission: Admission
    instances: InstanceCache
    recorder: RunRecorder
    sessions: SessionDesk
    connections: Sized
    templates: TemplateCatalog
    providers: Callable[[], Sequence[ProviderHealth]]
    worker: Worker
    caretaker: Caretaker

    def __call__(self) -> Sequence[Metric]:
        return [
            *self._runs(),
            *self._durable(),
            *self._providers(),
            *self._instances(),
            *self._records(),
            *self._templates(),
        ]

    def _runs(self) -> Iterator[Metric]:
        admission = self.admission
        yield _gauge("running_runs", "Runs that go on.", admission.running)
        yield GaugeMetricFamily(
            "agent_active_sessions",
            "Sessions with a turn that goes on.",
            value=self.sessions.active,
        )
        open_ = len(self.connections)
        yield _gauge("websocket_connections", "WebSockets that are open.", open_)
        limits = GaugeMetricFamily(
            "agent_runtime_admission_limit", "Most runs at once.", labels=["of"]
        )
        limits.add_metric(["process"], admission.process_limit)
        limits.add_metric(["agent"], admission.agent_limit)
        yield limits
        yield _gauge("draining", "1: no new runs are taken.", not admission.open)

    def _durable(self) -> Iterator[Metric]:
        running, due = len(self.worker.active), self.caretaker.due
        yield _gauge("durable_running_runs", "Durable runs that this process has.", running)
        yield _gauge("durable_due_runs", f"Durable runs that nobody has, up to {AT_ONCE}.", due)
        yield _counter(
            "agent_runtime_durable_takeovers",
            "Durable runs taken up after their process was gone.",
            self.caretaker.taken_over,
        )

    def _providers(self) -> Iterator[Metric]:
        healthy = _labelled("provider_healthy", "0: not healthy.", "project", "provider")
        active = _labelled("provider_active_calls", "Calls that go on.", "project", "provider")
        breaker = _labelled(
            "model_breaker_open",
            "1: the model is left alone, 0.5: one call may try it, 0: it is called.",
            "project",
            "model",
        )
        for each in self.providers():
            project = each.project or ""
            healthy.add_metric([project, each.provider], each.status == "healthy")
            active.add_metric([project, each.provider], each.active)
            for model in filter(_is_real, each.models[:MOST_VALUES]):
                breaker.add_metric([project, model.model], _BREAKER[model.breaker])
        yield from (healthy, active, breaker)

    def _instances(self) -> Iterator[Metric]:
        cache = self.instances
        yield _gauge("instances", "Agent versions kept ready to run.", len(cache))
        yield _counter("agent_cache_hits", "Runs whose agent was ready.", cache.hits)
        yield _counter("agent_cache_misses", "Runs whose agent was not.", cache.misses)
        builds = CounterMetricFamily(
            "agent_runtime_instance_builds", "Agents made ready.", labels=["outcome"]
        )
        builds.add_metric(["success"], cache.builds - cache.failed_builds)
        builds.add_metric(["error"], cache.failed_builds)
        yield builds
        yield _counter(
            "agent_runtime_instance_evictions",
            "Ready agents given up: idle, surplus or replaced.",
            cache.evictions,
        )

    def _records(self) -> Iterator[Metric]:
        yield _gauge(
            "recorder_backlog", "Run records that wait to be written.", self.recorder.backlog
        )
        yield _counter(
            "agent_runtime_run_records_lost", "Run records given up.", self.recorder.lost
        )

    def _templates(self) -> Iterator[Metric]:
        problems = self.templates.problems()
        yield _gauge("template_problems", "Template files that do not load.", len(problems))


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"agent_runtime_{name}", about, value=value)


def _is_real(model: ModelHealth) -> bool:
    """Callers may write any name: one that nothing ever came of gets no label."""
    answered = model.requests - model.errors - model.active
    return answered > 0 or model.breaker != "closed"


def _labelled(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"agent_runtime_{name}", about, labels=labels)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=value)


class _Latest(Collector):
    """What was read of the running parts a moment ago."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = ()

    def collect(self) -> Iterable[Metric]:
        return self.metrics


class Exposition:
    def __init__(
        self, registry: CollectorRegistry, present: Callable[[], Sequence[Metric]]
    ) -> None:
        self._registry = registry
        self._present = present
        self._latest = _Latest()
        registry.register(self._latest)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type: OpenMetrics for whoever accepts it, else Prometheus."""
        self._latest.metrics = self._present()
        open_metrics = OPEN_METRICS in accept
        # In a thread: with hundreds of agents it takes tens of milliseconds.
        write = openmetrics.generate_latest if open_metrics else generate_latest
        text: bytes = await asyncio.to_thread(write, self._registry)
        return text, openmetrics.CONTENT_TYPE_LATEST if open_metrics else TEXT
