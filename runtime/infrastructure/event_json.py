"""Events of runs as JSON, as they are stored and as `/v1/runs/{id}/events` shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from dataclasses import fields as fields_of
from functools import cache
from typing import Any, get_args

from runtime.domain.errors import DomainError, ExecutionFailed
from runtime.domain.events.runs import (
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
    UsageReported,
)
from runtime.domain.value_objects.chat import Usage

_KINDS: Mapping[str, Any] = {kind.type: kind for kind in get_args(RunEvent)}
_FIELDS: Mapping[type, Sequence[str]] = {
    kind: [field.name for field in fields_of(kind)] for kind in _KINDS.values()
}


def event_to_json(event: RunEvent) -> dict[str, Any]:
    match event:
        case RunFailed(error=error):
            return {"type": event.type, "code": error.code, "message": str(error)}
        case TextDelta(logprobs=None):
            return {"type": event.type, "text": event.text}
        case _:
            said = ((name, getattr(event, name)) for name in _FIELDS[type(event)])
            return {"type": event.type, **{name: _plain(value) for name, value in said}}


def event_from_json(data: Mapping[str, Any]) -> RunEvent:
    fields = {name: value for name, value in data.items() if name != "type"}
    match data["type"]:
        case RunFailed.type:
            return RunFailed(failure_of(fields["code"], fields["message"]))
        case RunCompleted.type:
            return RunCompleted(fields["finish_reason"], Usage(**fields["usage"]))
        case UsageReported.type:
            return UsageReported(**{**fields, "usage": Usage(**fields["usage"])})
        case kind:
            event: RunEvent = _KINDS[kind](**fields)
            return event


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Usage) else value


def failure_of(code: str, message: str) -> DomainError:
    """Of the kind that it was, with the words that it had."""
    kind = _failures().get(code, ExecutionFailed)
    error = kind.__new__(kind)
    DomainError.__init__(error, message)
    return error


@cache
def _failures() -> Mapping[str, type[DomainError]]:
    kinds, found = [DomainError], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "code" in vars(kind):
            found[kind.code] = kind
    return found
