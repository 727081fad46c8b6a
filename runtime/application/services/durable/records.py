"""The record of a run that no attempt ends, made of its log."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from runtime.application.services.journal import outcome, step_record, tool_record
from runtime.application.services.rulebook import PriceOf
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.responses import End
from runtime.domain.entities.runs import Run
from runtime.domain.events.runs import RunEvent, StepFinished, ToolReturned, UsageReported
from runtime.domain.value_objects.chat import NO_USAGE, Usage
from runtime.domain.value_objects.limits import rounded


def record_of(
    run: DurableRun, events: Sequence[RunEvent], end: End, at: datetime, price_of: PriceOf
) -> Run:
    reports = [event for event in events if isinstance(event, UsageReported)]
    status, finish, error = outcome(end)
    since = run.started_at or run.created_at
    return Run(
        id=run.id,
        agent_id=run.agent_id,
        line_id=run.line_id,
        model=run.model,
        project_id=run.project_id,
        owner_id=run.owner_id,
        status=status,
        finish_reason=finish,
        error_code=error.code if error else None,
        started_at=since,
        ended_at=at,
        first_token_ms=None,
        duration_ms=(at - since).total_seconds() * 1_000 if run.started_at else 0.0,
        usage=_used(reports),
        usage_estimated=any(report.estimated for report in reports),
        models=tuple(dict.fromkeys(report.model for report in reports)),
        steps=tuple(step_record(event) for event in events if isinstance(event, StepFinished)),
        tools=tuple(tool_record(event) for event in events if isinstance(event, ToolReturned)),
        session_id=run.order.session,
        metadata=run.order.metadata,
        error=error,
        key_id=run.order.caller.key_id,
        cost=_paid(reports, price_of),
    )


def _used(reports: Sequence[UsageReported]) -> Usage:
    return sum((report.usage for report in reports), NO_USAGE)


def _paid(reports: Sequence[UsageReported], price_of: PriceOf) -> Decimal | None:
    """None where some model has no price."""
    cost = Decimal(0)
    for report in reports:
        price = price_of(report.called or report.model)
        if price is None:
            return None
        cost += price.of(report.usage)
    return rounded(cost)
