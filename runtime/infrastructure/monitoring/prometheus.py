"""Prometheus metrics, in a registry of the app's own.

`agent_…` and `ai_…` are names that platforms already ask for; ours begin with `agent_runtime_`.
"""

import platform
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from runtime import __version__
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.errors import BudgetExhausted, DomainError, LimitReached
from runtime.domain.services.monitor import (
    CallEnd,
    CallWatch,
    RunWatch,
    Unwatched,
    UnwatchedCall,
    UnwatchedRun,
)
from runtime.domain.value_objects.chat import GenerationOptions, Usage
from runtime.domain.value_objects.ids import RunId

MOST_VALUES = 100
"""Of one label; a scrape stays small whatever people name their agents."""
OTHER = "other"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DEFAULT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Those of the Go client, which the platform's own metrics were made with."""
_TOKENS = (100, 500, 1_000, 2_000, 5_000, 10_000)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Bounded:
    """The values of a label: as they come until there are `most`, all others as `other`."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


class PrometheusMonitor(Unwatched):
    def __init__(self, most_values: int = MOST_VALUES) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._agents = Bounded(most_values)
        self._types = Bounded(most_values)
        self._tools = Bounded(most_values)
        self._models = Bounded(most_values)
        self._by_agent: dict[str, _OfAgent] = {}
        self._by_type: dict[str, _OfType] = {}
        self._by_model: dict[tuple[str, str], _OfModel] = {}
        ProcessCollector(registry=self.registry)
        build = Info("agent_runtime_build", "The version that runs.", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self._define_runs()
        self._define_calls()
        self._define_platform()
        self._requests = self._counter(
            "agent_runtime_http_requests_total",
            "HTTP requests, by route as it is declared.",
            "method",
            "route",
            "status",
        )
        self._request_seconds = self._histogram(
            "agent_runtime_http_request_duration_seconds",
            "From the request to the end of its answer, a stream's too.",
            _SECONDS,
            "method",
            "route",
        )

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        return _RunCount(self, agent)

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        return _CallCount(self.of_model(provider, model))

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        return _EmbeddingCount(self, provider, model)

    def fell_back(self, provider: str, model: str, error: DomainError) -> None:
        self._fallbacks.labels(self._models(f"{provider}/{model}"), error.code).inc()

    def refused(self, agent: Agent, error: DomainError) -> None:
        self._refusals.labels(self._agents(str(agent.slug)), error.code).inc()
        if isinstance(error, LimitReached | BudgetExhausted):
            self._limit_refusals.labels(error.scope, error.kind).inc()

    def request(self, method: str, route: str, status: int, duration_s: float) -> None:
        method = method if method in _METHODS else OTHER
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(duration_s)

    def of_agent(self, slug: str) -> "_OfAgent":
        slug = self._agents(slug)
        known = self._by_agent.get(slug)
        if known is None:
            known = self._by_agent[slug] = _OfAgent(
                slug, self._runs, self._run_seconds.labels(slug), self._first_token.labels(slug)
            )
        return known

    def of_type(self, agent_type: str) -> "_OfType":
        kind = self._types(agent_type)
        known = self._by_type.get(kind)
        if known is None:
            known = self._by_type[kind] = _OfType(self, kind)
        return known

    def tool_called(self, name: str, status: str, duration_s: float) -> None:
        name = self._tools(name)
        self._tool_calls.labels(name, status).inc()
        self._tool_seconds.labels(name).observe(duration_s)

    def of_model(self, provider: str, model: str) -> "_OfModel":
        key = (provider, self._models(f"{provider}/{model}"))
        known = self._by_model.get(key)
        if known is None:
            known = self._by_model[key] = _OfModel(
                provider,
                key[1],
                self._calls,
                self._call_seconds.labels(provider),
                self._retries.labels(provider),
                self._tokens,
            )
        return known

    def _define_runs(self) -> None:
        self._runs = self._counter(
            "agent_runtime_runs_total",
            "Runs that ended; error is the code of a failed one.",
            "agent",
            "status",
            "error",
        )
        self._run_seconds = self._histogram(
            "agent_runtime_run_duration_seconds",
            "From a run's start to its end.",
            _SECONDS,
            "agent",
        )
        self._first_token = self._histogram(
            "agent_runtime_time_to_first_token_seconds",
            "From a run's start to the first piece of its answer.",
            _FIRST_TOKEN_SECONDS,
            "agent",
        )
        self._refusals = self._counter(
            "agent_runtime_refusals_total",
            "Runs that did not begin: saturated, draining, a parameter the agent does not take.",
            "agent",
            "reason",
        )

        self._limit_refusals = self._counter(
            "agent_runtime_limit_refusals_total",
            "Runs that did not begin for a limit of requests, tokens or runs, or for a budget.",
            "scope",
            "kind",
        )

    def _define_calls(self) -> None:
        self._calls = self._counter(
            "agent_runtime_model_calls_total",
            "Calls of a model, each with all its attempts; the outcome is success, cancelled or "
            "the code of the error.",
            "provider",
            "outcome",
        )
        self._call_seconds = self._histogram(
            "agent_runtime_model_call_duration_seconds",
            "From the call of a model to the end of its answer.",
            _SECONDS,
            "provider",
        )
        self._retries = self._counter(
            "agent_runtime_model_retries_total", "Repeated attempts.", "provider"
        )
        self._fallbacks = self._counter(
            "agent_runtime_model_fallbacks_total",
            "Calls that another model was asked to answer, by the code of what the model failed "
            "with.",
            "model",
            "reason",
        )
        self._tokens = self._counter(
            "agent_runtime_tokens_total",
            "Tokens; cached are part of input, reasoning of output.",
            "model",
            "kind",
        )
        self._tool_seconds = self._histogram(
            "agent_runtime_tool_call_duration_seconds", "Of one call.", _SECONDS, "tool_name"
        )

    def _define_platform(self) -> None:
        self.ai_requests = self._counter(
            "ai_agent_requests_total", "Runs that ended.", "agent_type", "status"
        )
        self.ai_seconds = self._histogram(
            "ai_agent_duration_seconds", "Duration of runs.", _DEFAULT_SECONDS, "agent_type"
        )
        self.ai_tokens = self._histogram(
            "ai_agent_tokens_used", "Tokens of one run.", _TOKENS, "agent_type"
        )
        self._tool_calls = self._counter(
            "ai_tool_calls_total", "Calls of an agent's own tools.", "tool_name", "status"
        )
        self.requests = self._counter(
            "agent_requests_total",
            "Runs: each once as processing and once as success, error or cancelled.",
            "type",
            "status",
        )
        self.seconds = self._histogram(
            "agent_request_duration_seconds", "Duration of runs.", _DEFAULT_SECONDS, "type"
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self.registry)


_RESULTS = {
    RunStatus.COMPLETED: "success",
    RunStatus.FAILED: "error",
    RunStatus.CANCELLED: "cancelled",
}


class _OfAgent:
    """One agent's metrics: finding a child by its labels costs more than counting."""

    def __init__(self, slug: str, runs: Counter, seconds: Histogram, first: Histogram) -> None:
        self._slug = slug
        self._runs = runs
        self._seconds = seconds
        self._first_token = first
        self._completed = runs.labels(slug, RunStatus.COMPLETED.value, "")

    def ended(self, run: Run) -> None:
        if run.status is RunStatus.COMPLETED:
            self._completed.inc()
        else:
            self._runs.labels(self._slug, run.status.value, run.error_code or "").inc()
        self._seconds.observe(run.duration_ms / 1_000)
        if run.first_token_ms is not None:
            self._first_token.observe(run.first_token_ms / 1_000)


class _OfType:
    def __init__(self, monitor: PrometheusMonitor, kind: str) -> None:
        self.begun = monitor.requests.labels(kind, "processing")
        self._results = {
            status: (
                monitor.requests.labels(kind, result),
                monitor.ai_requests.labels(kind, status.value),
            )
            for status, result in _RESULTS.items()
        }
        self._seconds = (monitor.seconds.labels(kind), monitor.ai_seconds.labels(kind))
        self._tokens = monitor.ai_tokens.labels(kind)

    def ended(self, run: Run) -> None:
        for counter in self._results[run.status]:
            counter.inc()
        for histogram in self._seconds:
            histogram.observe(run.duration_ms / 1_000)
        self._tokens.observe(run.usage.total_tokens)


class _OfModel:
    def __init__(
        self,
        provider: str,
        model: str,
        calls: Counter,
        seconds: Histogram,
        retries: Counter,
        tokens: Counter,
    ) -> None:
        self._provider = provider
        self._calls = calls
        self._succeeded = calls.labels(provider, "success")
        self._seconds = seconds
        self._retries = retries
        self._input, self._output, self._cached, self._reasoning = (
            tokens.labels(model, kind) for kind in ("input", "output", "cached", "reasoning")
        )

    def ended(self, end: CallEnd) -> None:
        if end.outcome == "success":
            self._succeeded.inc()
        else:
            self._calls.labels(self._provider, end.outcome).inc()
        self._seconds.observe(end.duration_s)
        if end.retries:
            self._retries.inc(end.retries)
        self._count(end.usage)

    def _count(self, usage: Usage) -> None:
        self._input.inc(usage.input_tokens)
        self._output.inc(usage.output_tokens)
        if usage.cached_tokens:
            self._cached.inc(usage.cached_tokens)
        if usage.reasoning_tokens:
            self._reasoning.inc(usage.reasoning_tokens)


class _RunCount(UnwatchedRun):
    def __init__(self, monitor: PrometheusMonitor, agent: Agent) -> None:
        self._monitor = monitor
        self._slug = str(agent.slug)
        self._of_type = monitor.of_type(agent.spec.agent_type)
        self._of_type.begun.inc()

    def ended(self, run: Run) -> None:
        if not run.status.final:
            return  # An attempt; the one that ends the run has all that those before it did.
        self._of_type.ended(run)
        self._monitor.of_agent(self._slug).ended(run)
        for tool in run.tools:
            self._monitor.tool_called(tool.name, tool.status, tool.duration_ms / 1_000)


class _EmbeddingCount(UnwatchedCall):
    def __init__(self, monitor: PrometheusMonitor, provider: str, model: str) -> None:
        self._monitor = monitor
        self._provider = provider
        self._model = model

    def ended(self, end: CallEnd) -> None:
        """Only a model that answered gets a label: callers may write any name."""
        model = self._model if end.outcome == "success" else OTHER
        self._monitor.of_model(self._provider, model).ended(end)


class _CallCount(UnwatchedCall):
    def __init__(self, of_model: _OfModel) -> None:
        self._of_model = of_model

    def ended(self, end: CallEnd) -> None:
        self._of_model.ended(end)
