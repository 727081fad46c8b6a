import structlog
from structlog.contextvars import bind_contextvars

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.services.monitor import RunWatch, Unwatched, UnwatchedRun
from runtime.domain.value_objects.ids import RunId

log = structlog.get_logger("runtime.runs")


class RunLog(Unwatched):
    """Every line that a run writes carries its id; one line tells how it ended."""

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        bind_contextvars(run_id=id, agent=str(agent.slug))
        return _Line(agent.version)


class _Line(UnwatchedRun):
    def __init__(self, version: str) -> None:
        self._version = version

    def ended(self, run: Run) -> None:
        first_token_ms = run.first_token_ms
        log.info(
            "run",
            version=self._version,
            status=run.status.value,
            finish_reason=run.finish_reason,
            error=run.error_code,
            duration_ms=round(run.duration_ms, 1),
            first_token_ms=None if first_token_ms is None else round(first_token_ms, 1),
            input_tokens=run.usage.input_tokens,
            output_tokens=run.usage.output_tokens,
            models=list(run.models),
            steps=len(run.steps),
            tool_calls=len(run.tools),
        )
