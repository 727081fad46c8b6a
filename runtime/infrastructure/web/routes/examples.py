"""What the OpenAPI document says of refusals on the platform's routes."""

from typing import Any

_SCHEMA = {
    "type": "object",
    "required": ["error", "message", "details"],
    "properties": {
        "error": {"type": "string"},
        "message": {"type": "string"},
        "details": {"type": "object"},
    },
}


def _refusal(description: str, error: str, code: str, message: str) -> dict[str, Any]:
    example = {"error": error, "message": message, "details": {"code": code}}
    return {
        "description": description,
        "content": {"application/json": {"schema": _SCHEMA, "example": example}},
    }


_ALL = {
    400: _refusal(
        "The request is wrong.", "VALIDATION_ERROR", "invalid_request", "name: Field required"
    ),
    401: _refusal("No valid token.", "INVALID_TOKEN", "invalid_token", "The token is not valid."),
    403: _refusal(
        "Not allowed.",
        "FORBIDDEN",
        "forbidden",
        "A reviewer is somebody other than the author.",
    ),
    404: _refusal(
        "It does not exist, for this caller.",
        "AGENT_NOT_FOUND",
        "agent_not_found",
        "Agent 'agent_1' does not exist.",
    ),
    409: _refusal(
        "Not in the present state.",
        "CONFLICT",
        "transition_refused",
        "An agent that is published can't be edited: its content is what was reviewed.",
    ),
    412: _refusal(
        "If-Match names an older state.",
        "STALE_VERSION",
        "stale_version",
        "If-Match names an older state of this agent.",
    ),
    413: _refusal(
        "The body is too large.",
        "PAYLOAD_TOO_LARGE",
        "payload_too_large",
        "The body is larger than 10000000 bytes.",
    ),
    422: {
        **_refusal("It does not fit the template.", "VALIDATION_ERROR", "invalid_config", ""),
        "content": {
            "application/json": {
                "schema": _SCHEMA,
                "example": {
                    "error": "VALIDATION_ERROR",
                    "message": "template_config.tone: Input should be 'friendly' or 'formal'. "
                    "It takes one of friendly, formal.",
                    "details": {
                        "code": "invalid_config",
                        "param": "template_config.tone",
                        "errors": [
                            {
                                "path": "tone",
                                "message": "Input should be 'friendly' or 'formal'",
                                "expected": "one of friendly, formal",
                                "allowed": ["friendly", "formal"],
                            }
                        ],
                    },
                },
            }
        },
    },
    429: _refusal(
        "Too many for now; see Retry-After.",
        "RATE_LIMIT_EXCEEDED",
        "too_many_queued_runs",
        "You have 1000 runs waiting to begin, which is the most; wait until some have.",
    ),
    500: _refusal(
        "What is stored can't be read.",
        "EXECUTION_ERROR",
        "secret_unreadable",
        "A stored secret can't be read with the runtime's key.",
    ),
    503: _refusal(
        "For now it can't be done; see Retry-After.",
        "UNAVAILABLE",
        "database_unavailable",
        "The database can't be reached right now; try again.",
    ),
}


def errors_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ALL[status] for status in statuses}


PLATFORM_ERRORS = errors_of(400, 401, 403, 404, 503)
