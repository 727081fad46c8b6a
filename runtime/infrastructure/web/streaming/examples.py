"""What the OpenAPI document says of the streaming routes' answers."""

from typing import Any

_SCHEMA = {
    "type": "object",
    "required": ["request_id", "success", "error", "data"],
    "properties": {
        "request_id": {"type": "string"},
        "success": {"type": "boolean"},
        "error": {"type": ["string", "null"]},
        "data": {"type": ["object", "null"]},
        "code": {"type": "string"},
        "details": {"type": "object"},
    },
}


def gateway_error(
    description: str, code: str, message: str, param: str | None = None
) -> dict[str, Any]:
    example = {
        "request_id": "req_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
        "success": False,
        "error": message,
        "data": None,
        "code": code,
        "details": {"param": param} if param else {},
    }
    return {
        "description": description,
        "content": {"application/json": {"schema": _SCHEMA, "example": example}},
    }


def answered(description: str, data: dict[str, Any]) -> dict[str, Any]:
    example = {
        "request_id": "req_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
        "success": True,
        "error": None,
        "data": data,
    }
    return {
        "description": description,
        "content": {"application/json": {"schema": _SCHEMA, "example": example}},
    }


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: gateway_error(
        "The request is wrong.",
        "invalid_value",
        "There is no such format; the formats are: sse, text, jsonl, ai-sdk, proxy.",
        "stream_format",
    ),
    401: gateway_error("No valid credential.", "invalid_token", "The token is not valid."),
    403: gateway_error("Not allowed.", "forbidden", "You need the role 'editor' for this."),
    404: gateway_error(
        "No such agent for this caller.",
        "model_not_found",
        "The model 'supprt' does not exist or you have no access to it.",
    ),
    408: gateway_error("The run took too long.", "timeout", "The run was stopped."),
    409: gateway_error(
        "Another turn of the conversation goes on, and the waiting took too long.",
        "session_busy",
        "Another turn of this conversation goes on; send the next one when it has ended.",
    ),
    413: gateway_error("The body is too large.", "payload_too_large", "The body is too large."),
    422: gateway_error(
        "The agent's configuration no longer fits its template.",
        "invalid_config",
        "template_config.tone: There is no such field.",
    ),
    429: gateway_error(
        "Too many requests, here or at the model's provider; see Retry-After.",
        "upstream_rate_limited",
        "The model's provider asks to wait.",
    ),
    500: gateway_error("The agent's code failed.", "execution_error", "It failed."),
    502: gateway_error("The provider failed.", "upstream_error", "The provider failed."),
    503: gateway_error(
        "For now it can't be done; see Retry-After.",
        "database_unavailable",
        "The database can't be reached right now; try again.",
    ),
    504: gateway_error("The provider is too slow.", "upstream_timeout", "No answer."),
}
_ANSWER: dict[str, Any] = {
    "source": "demo",
    "run_id": "run_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
    "content": "Hello! How can I help?",
    "reasoning": None,
    "refusal": None,
    "tool_calls": [],
    "finish_reason": "stop",
    "latency_ms": 812.4,
    "first_token_ms": 120.9,
    "usage": {
        "input_tokens": 12,
        "output_tokens": 6,
        "total_tokens": 18,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    },
    "cost": 0.00042,
    "models": ["demo-1"],
    "error": None,
}
_FAILED: dict[str, Any] = {
    **_ANSWER,
    "source": "openai",
    "content": None,
    "finish_reason": None,
    "first_token_ms": None,
    "cost": None,
    "models": [],
    "error": {"code": "upstream_timeout", "message": "It said nothing in time.", "status": 504},
}
_STREAM = (
    'data: {"type":"start","source":"demo","run_id":"run_…"}\nid: 1\n\n'
    'data: {"type":"text-delta","content":"Hello!"}\nid: 2\n\n'
    'data: {"type":"finish","finish_reason":"stop","usage":{}}\nid: 3\n\n'
    "data: [DONE]\n\n"
)
_WHOLE = answered("The stream in its format, or with `stream: false` the answer.", _ANSWER)

CHAT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        **_WHOLE,
        "content": {
            **_WHOLE["content"],
            "text/event-stream": {"example": _STREAM},
            "text/plain": {"example": "Hello! How can I help?"},
            "application/x-ndjson": {"example": '{"type":"text-delta","content":"Hello!"}\n'},
        },
    },
    **_ERRORS,
}
COMPARE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: answered("What each came to, in the order asked.", {"results": [_ANSWER, _FAILED]}),
    **_ERRORS,
}
