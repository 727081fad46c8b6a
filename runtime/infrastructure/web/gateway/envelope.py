"""What every answer of the gateway's has around it: `{request_id, success, data, error}`."""

from typing import Any, Generic, Literal, Self, TypeVar

import structlog
from pydantic import BaseModel, Field

T = TypeVar("T")


class Envelope(BaseModel, Generic[T]):
    request_id: str = Field(examples=["req_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2"])
    success: Literal[True] = True
    data: T
    error: None = None

    @classmethod
    def around(cls, data: T) -> Self:
        return cls(request_id=request_id(), data=data)


def request_id() -> str:
    """Of the request that is being answered."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


class Items(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    has_more: bool = False
    next_cursor: str | None = Field(default=None, description="Of the page that follows.")


_SCHEMA = {
    "type": "object",
    "required": ["request_id", "success", "data", "error", "code", "details"],
    "properties": {
        "request_id": {"type": "string"},
        "success": {"const": False},
        "data": {"type": "null"},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "details": {"type": "object"},
    },
}


def _refusal(description: str, code: str, message: str) -> dict[str, Any]:
    example = {
        "request_id": "req_1",
        "success": False,
        "error": message,
        "data": None,
        "code": code,
        "details": {},
    }
    return {
        "description": description,
        "content": {"application/json": {"schema": _SCHEMA, "example": example}},
    }


_ALL: dict[int, dict[str, Any]] = {
    400: _refusal("The request is wrong.", "invalid_request", "name: Field required"),
    401: _refusal("No valid token.", "invalid_token", "The token is not valid."),
    403: _refusal("Not allowed.", "forbidden", "The role 'editor' is needed to create an agent."),
    404: _refusal(
        "It does not exist, for this caller.",
        "agent_not_found",
        "Agent 'agent_1' does not exist.",
    ),
    408: _refusal("The run took too long.", "timeout", "The run was stopped."),
    409: _refusal("Not in the present state.", "name_taken", "The slug 'support' is taken."),
    413: _refusal("The body is too large.", "payload_too_large", "The body is too large."),
    422: _refusal(
        "It does not fit the template.",
        "invalid_config",
        "template_config.tone: There is no such field.",
    ),
    429: _refusal(
        "Too many requests, here or at the model's provider; see Retry-After.",
        "rate_limit_exceeded",
        "Too many requests.",
    ),
    500: _refusal("The agent's code failed.", "execution_error", "It failed."),
    502: _refusal("The provider failed.", "upstream_error", "It failed."),
    503: _refusal(
        "For now it can't be done; see Retry-After.",
        "database_unavailable",
        "The database can't be reached right now; try again.",
    ),
    504: _refusal("The provider is too slow.", "upstream_timeout", "No answer."),
}


def errors_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ALL[status] for status in statuses}


GATEWAY_ERRORS = errors_of(400, 401, 403, 404, 503)
