"""What endpoints are told: thin, with a link to the rest."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import Run
from runtime.domain.value_objects.webhooks import (
    MAX_OUTPUT_BYTES,
    TEST_EVENT,
    EventType,
    RunCallback,
    WebhookEvent,
)

Data = Mapping[str, object]


def run_event(record: Run, run: DurableRun, output: str | None = None) -> WebhookEvent:
    """That the run has ended. `output` is its text, for the endpoints that want it."""
    at = record.ended_at
    data = {
        **_of_run(run),
        "status": record.status.value,
        "started_at": _time(run.started_at or record.started_at),
        "ended_at": _time(at),
        "duration_ms": record.duration_ms,
        "finish_reason": record.finish_reason,
        "usage": {
            "input_tokens": record.usage.input_tokens,
            "output_tokens": record.usage.output_tokens,
            "total_tokens": record.usage.input_tokens + record.usage.output_tokens,
            "cost_usd": _usd(record.cost),
        },
        "error": _error(record, run),
    }
    return _told_of_run(EventType(f"run.{record.status}"), run, at, data, output)


def waiting_event(run: DurableRun, at: datetime) -> WebhookEvent:
    """That the run waits for a person."""
    data = {
        **_of_run(run),
        "status": "waiting",
        "started_at": _time(run.started_at),
        "approvals": f"/v1/runs/{run.id}/approvals",
    }
    return _told_of_run(EventType.RUN_WAITING, run, at, data, None)


def agent_event(type: EventType, agent: Agent, at: datetime) -> WebhookEvent:
    data = {
        "id": agent.id,
        "agent_line_id": agent.line_id,
        "slug": agent.slug.value,
        "version": agent.version,
        "name": agent.spec.name,
        "status": agent.status.value,
        "content_hash": agent.spec.content_hash,
        "owner_id": agent.owner_id,
        "author_id": agent.author_id,
        "reviewer_id": agent.reviewer_id,
        "link": f"/v1/agents/{agent.id}",
    }
    body = payload(type, at, data)
    return WebhookEvent(
        type=type,
        at=at,
        project_id=agent.project_id,
        owner_id=agent.owner_id,
        line_id=agent.line_id,
        body=body,
        full_body=body,
    )


def trial_payload(webhook: str, at: datetime) -> str:
    return payload(TEST_EVENT, at, {"webhook_id": webhook})


def payload(type: str, at: datetime, data: Data) -> str:
    """In ASCII: whatever a text holds, every database can store it, and it is signed as sent."""
    said = {"type": str(type), "timestamp": _time(at), "data": data}
    return json.dumps(said, separators=(",", ":"))


def _told_of_run(
    type: EventType, run: DurableRun, at: datetime, data: Data, output: str | None
) -> WebhookEvent:
    body = full_body = payload(type, at, data)
    if output is not None:
        full_body = payload(type, at, {**data, **_bounded(output)})
    callback = run.callback
    return WebhookEvent(
        type=type,
        at=at,
        project_id=run.project_id,
        owner_id=run.owner_id,
        line_id=run.line_id,
        body=body,
        full_body=full_body,
        callback=RunCallback(url=callback.url, secret_sealed=callback.secret_sealed, run=run.id)
        if callback
        else None,
    )


def _of_run(run: DurableRun) -> dict[str, object]:
    return {
        "id": run.id,
        "agent_id": run.agent_id,
        "agent_line_id": run.line_id,
        "model": run.model,
        "owner_id": run.owner_id,
        "session_id": run.order.session,
        "attempt": run.attempt,
        "created_at": _time(run.created_at),
        "origin": run.origin and asdict(run.origin),
        "metadata": dict(run.order.metadata),
        "link": f"/v1/runs/{run.id}",
    }


def _error(record: Run, run: DurableRun) -> Data | None:
    if run.error is not None:
        return {"code": run.error.code, "message": run.error.message}
    if record.error_code is None:
        return None
    return {"code": record.error_code, "message": str(record.error) if record.error else ""}


def _bounded(output: str) -> Data:
    whole = output.encode(errors="replace")
    cut = whole[:MAX_OUTPUT_BYTES].decode(errors="ignore")
    return {"output": cut, "output_truncated": len(whole) > MAX_OUTPUT_BYTES}


def _time(at: datetime | None) -> str | None:
    """RFC 3339, in UTC."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _usd(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost)
