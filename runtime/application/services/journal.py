from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from time import perf_counter

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.services.durable.part import Paused
from runtime.application.services.rulebook import PriceOf
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus, StepRecord, ToolRecord
from runtime.domain.errors import DomainError
from runtime.domain.events.runs import (
    OUTPUT,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    StepFinished,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from runtime.domain.services.monitor import RunWatch
from runtime.domain.value_objects.chat import NO_USAGE
from runtime.domain.value_objects.ids import RunId
from runtime.domain.value_objects.limits import rounded

_PAUSED = {"suspended": RunStatus.WAITING, "lost": RunStatus.CANCELLED}
"""What a run's log line says of an attempt that did not come to the run's end; else queued."""


class RunJournal:
    """Watches one run's events and sums them up; per token it does next to nothing."""

    def __init__(
        self,
        id: RunId,
        agent: Agent,
        command: ExecuteAgent,
        now: Callable[[], datetime],
        watch: RunWatch,
        price_of: PriceOf,
    ) -> None:
        self._id = id
        self._agent = agent
        self._command = command
        self._now = now
        self._watch = watch
        self._started_at = now()
        self._since = perf_counter()
        self._first_token_ms: float | None = None
        self._models: dict[str, None] = {}
        self._estimated = False
        self._price_of = price_of
        self._cost: Decimal | None = Decimal(0)
        self.usage = NO_USAGE
        self.recalled = NO_USAGE
        """Of that, what earlier attempts used."""
        self.steps: list[StepRecord] = []
        self.tools: list[ToolRecord] = []

    @property
    def elapsed_ms(self) -> float:
        return (perf_counter() - self._since) * 1_000

    def recall(self, events: Sequence[RunEvent]) -> None:
        """What earlier attempts used and did."""
        for event in events:
            match event:
                case UsageReported():
                    self._use(event)
                case StepFinished():
                    self.steps.append(step_record(event))
                case ToolReturned():
                    self.tools.append(tool_record(event))
                case _:
                    pass
        self.recalled = self.usage

    def see(self, event: RunEvent) -> None:
        if type(event) is TextDelta:
            if self._first_token_ms is None:
                self._first_token_ms = self.elapsed_ms
            return
        match event:
            case UsageReported():
                self._use(event)
            case StepFinished():
                self.steps.append(step_record(event))
            case ToolCalled():
                self._watch.tool_called(event.call_id, event.name)
            case ToolReturned():
                self._watch.tool_returned(event.call_id, event.status)
                self.tools.append(tool_record(event))
            case _ if isinstance(event, OUTPUT) and self._first_token_ms is None:
                self._first_token_ms = self.elapsed_ms
            case _:
                pass

    def record(self, end: RunCompleted | RunFailed | RunCancelled | Paused) -> Run:
        status, finish, error = outcome(end)
        caller, session = self._command.caller, self._command.session
        return Run(
            id=self._id,
            agent_id=self._agent.id,
            line_id=self._agent.line_id,
            model=self._command.model,
            project_id=self._agent.project_id,
            owner_id=caller.user_id,
            status=status,
            finish_reason=finish,
            error_code=error.code if error else None,
            started_at=self._started_at,
            ended_at=self._now(),
            first_token_ms=self._first_token_ms,
            duration_ms=self.elapsed_ms,
            usage=self.usage,
            usage_estimated=self._estimated,
            models=tuple(self._models),
            steps=tuple(self.steps),
            tools=tuple(self.tools),
            session_id=session.name if session else None,
            metadata=self._command.metadata,
            error=error,
            key_id=caller.key_id,
            cost=None if self._cost is None else rounded(self._cost),
        )

    def _use(self, event: UsageReported) -> None:
        self.usage += event.usage
        self._models[event.model] = None
        self._estimated |= event.estimated
        price = self._price_of(event.called or event.model)
        if price is None or self._cost is None:
            self._cost = None
        else:
            self._cost += price.of(event.usage)


def step_record(event: StepFinished) -> StepRecord:
    return StepRecord(event.name, event.status, event.duration_ms, event.attempts)


def tool_record(event: ToolReturned) -> ToolRecord:
    return ToolRecord(event.name, event.status, event.duration_ms)


def outcome(
    end: RunCompleted | RunFailed | RunCancelled | Paused,
) -> tuple[RunStatus, str | None, DomainError | None]:
    match end:
        case RunCompleted():
            return RunStatus.COMPLETED, end.finish_reason, None
        case RunFailed():
            return RunStatus.FAILED, None, end.error
        case RunCancelled():
            return RunStatus.CANCELLED, None, None
        case Paused():
            return _PAUSED.get(end.why, RunStatus.QUEUED), None, None
