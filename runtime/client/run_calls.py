"""Calls of runs, as `calls` describes the others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from runtime.client import shapes
from runtime.client.calls import Messages
from runtime.client.options import quoted
from runtime.client.shapes import Call, Json, Page

ENDED = ("completed", "failed", "cancelled")


def start_run(
    model: str,
    input: Messages,
    *,
    session_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    priority: int = 0,
    not_before: datetime | None = None,
    deadline: datetime | None = None,
    webhook: str | Mapping[str, str] | None = None,
    **options: Any,  # noqa: ANN401 - of a chat completion
) -> Call[Json]:
    """Order a run that goes on without its caller. Times need a time zone; `options` are those of
    a chat completion. Answers the run, `queued`."""
    body = {
        "session_id": session_id,
        "metadata": metadata,
        "priority": priority,
        "not_before": not_before and not_before.isoformat(),
        "deadline": deadline and deadline.isoformat(),
        "webhook": webhook,
        **options,
        "model": model,
        "input": input if isinstance(input, str) else list(input),
    }
    return Call("POST", "/v1/runs", shapes.whole, shapes.given(body))


def get_run(run_id: str) -> Call[Json]:
    """How a run stands or went: usage, times, steps, tools, and of a durable one its `output`. One
    whose caller waited is on record when it has ended."""
    return Call("GET", _path(run_id), shapes.whole)


def list_runs(
    *,
    agent_id: str | None = None,
    session_id: str | None = None,
    status: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Call[Page]:
    """Newest first."""
    query = shapes.query(
        agent_id=agent_id, session_id=session_id, status=status, limit=limit, after=after
    )
    return Call("GET", "/v1/runs", shapes.page, query=query)


def cancel_run(run_id: str) -> Call[Json]:
    """End it now. One that has ended stays as it is."""
    return Call("POST", _path(run_id, "cancel"), shapes.whole)


def retry_run(run_id: str) -> Call[Json]:
    """A new run of the same order, from the start: its tools are called anew."""
    return Call("POST", _path(run_id, "retry"), shapes.whole)


def resume_run(run_id: str) -> Call[Json]:
    """A new run that goes on behind the last step of one that failed or was cancelled."""
    return Call("POST", _path(run_id, "resume"), shapes.whole)


def fork_run(
    run_id: str,
    checkpoint_id: str,
    *,
    input: Messages | None = None,
    values: Mapping[str, Any] | None = None,
) -> Call[Json]:
    """A new run that begins at a checkpoint of this one: as it was, with other values, or with
    another turn."""
    said = input if input is None or isinstance(input, str) else list(input)
    body = {"checkpoint_id": checkpoint_id, "input": said, "values": values}
    return Call("POST", _path(run_id, "fork"), shapes.whole, shapes.given(body))


def list_run_steps(run_id: str) -> Call[Page]:
    """In the order in which they began, while the run goes on too."""
    return Call("GET", _path(run_id, "steps"), shapes.page)


def list_run_tool_calls(run_id: str, *, limit: int = 50, after: str | None = None) -> Call[Page]:
    """What its tools were asked, and gave, oldest first."""
    query = shapes.query(limit=limit, after=after)
    return Call("GET", _path(run_id, "tool_calls"), shapes.page, query=query)


def list_run_checkpoints(run_id: str, *, limit: int = 20, after: str | None = None) -> Call[Page]:
    """The states between its steps, newest first."""
    query = shapes.query(limit=limit, after=after)
    return Call("GET", _path(run_id, "checkpoints"), shapes.page, query=query)


def list_approvals(
    *,
    run_id: str | None = None,
    status: Literal["pending", "decided"] | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Call[Page]:
    """What runs wait for, or waited for, newest first: with `run_id` of that run, all of it; else
    what the caller may see, by `status`."""
    path = "/v1/approvals" if run_id is None else _path(run_id, "approvals")
    asked = shapes.query(status=None if run_id else status, limit=limit, after=after)
    return Call("GET", path, shapes.page, query=asked)


def decide_approval(
    run_id: str,
    approval_id: str,
    decision: Literal["approve", "reject", "edit"],
    *,
    arguments: Mapping[str, Any] | None = None,
    value: object = None,
    reason: str = "",
    arguments_hash: str | None = None,
) -> Call[Json]:
    """Give one's word. Once nothing is left to decide, the run goes on."""
    body = {
        "decision": decision,
        "arguments": arguments,
        "value": value,
        "reason": reason,
        "arguments_hash": arguments_hash,
    }
    path = f"{_path(run_id, 'approvals')}/{quoted(approval_id)}"
    return Call("POST", path, shapes.whole, shapes.given(body))


def feedback(run_id: str, rating: Literal["up", "down"], comment: str | None = None) -> Call[Json]:
    """Say what you think of a run's answer; a second opinion takes the place of the first."""
    body = shapes.given({"rating": rating, "comment": comment})
    return Call("POST", _path(run_id, "feedback"), shapes.whole, body)


def _path(run_id: str, *more: str) -> str:
    return "/".join(("/v1/runs", quoted(run_id), *more))
