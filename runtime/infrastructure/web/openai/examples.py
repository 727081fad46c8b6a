"""What the OpenAPI document says of the OpenAI routes' answers."""

from typing import Any


def openai_error(description: str, type: str, code: str, message: str) -> dict[str, Any]:
    example = {"error": {"message": message, "type": type, "param": None, "code": code}}
    return {
        "description": description,
        "content": {"application/json": {"schema": _ERROR_SCHEMA, "example": example}},
    }


_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REQUEST = "invalid_request_error"
OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    400: openai_error(
        "The request is wrong.", _REQUEST, "invalid_request", "messages: Field required"
    ),
    401: openai_error(
        "No valid credential.", "authentication_error", "invalid_api_key", "The token is not valid."
    ),
    403: openai_error("Not allowed.", "permission_error", "forbidden", "The role is missing."),
    404: openai_error(
        "No such model for this caller.",
        _REQUEST,
        "model_not_found",
        "The model 'supprt' does not exist or you have no access to it.",
    ),
    503: openai_error(
        "For now it can't be done; see Retry-After.",
        "server_error",
        "database_unavailable",
        "The database can't be reached right now; try again.",
    ),
}
TOO_LARGE = openai_error(
    "The body is too large.", _REQUEST, "payload_too_large", "The body is too large."
)
SESSION_BUSY = openai_error(
    "Another turn of the conversation goes on, and the waiting took too long.",
    _REQUEST,
    "session_busy",
    "Another turn of this conversation goes on; send the next one when it has ended.",
)
CONVERSATION_ERRORS: dict[int | str, dict[str, Any]] = {
    **OPENAI_ERRORS,
    404: openai_error(
        "No such conversation of this caller, or no such item in it.",
        _REQUEST,
        "conversation_not_found",
        "Conversation with id 'conv_1' not found.",
    ),
    409: SESSION_BUSY,
    413: TOO_LARGE,
}
_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "assistant",
    "service_tier": "default",
    "system_fingerprint": "fp_1f2e3d4c5b",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello! How can I help?",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    "metadata": {
        "agent_id": "agent_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
        "agent_type": "conversation",
        "agent_version": "v1",
        "run_id": "run_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
        "processing_time_ms": 812.4,
        "execution_steps": [
            {"name": "answer", "status": "success", "duration_ms": 810.9, "attempts": 1}
        ],
        "tools_used": [],
    },
}
_STREAM = (
    'data: {"id":"chatcmpl-…","object":"chat.completion.chunk","created":1790000000,'
    '"model":"assistant","choices":[{"index":0,"delta":{"role":"assistant","content":""},'
    '"logprobs":null,"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
KEPT: dict[str, Any] = {**_COMPLETION, "metadata": {"team": "blue"}}
KEPT_LIST = {
    "object": "list",
    "data": [KEPT],
    "first_id": KEPT["id"],
    "last_id": KEPT["id"],
    "has_more": False,
}
KEPT_MESSAGES = {
    "object": "list",
    "data": [
        {
            "id": f"{KEPT['id']}-0",
            "role": "user",
            "content": "Hello",
            "name": None,
            "refusal": None,
            "content_parts": None,
        }
    ],
    "first_id": f"{KEPT['id']}-0",
    "last_id": f"{KEPT['id']}-0",
    "has_more": False,
}
STORED_ERRORS: dict[int | str, dict[str, Any]] = {
    **OPENAI_ERRORS,
    404: openai_error(
        "No such chat completion for this caller.",
        _REQUEST,
        "completion_not_found",
        "Chat completion 'chatcmpl-1' does not exist.",
    ),
    413: TOO_LARGE,
}


def answered(name: str, example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """A 200 in OpenAI's shape of that name."""
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {200: {"description": f"OpenAI's `{name}`.", "content": content}}


CHAT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or with `stream` its pieces as server-sent events.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _COMPLETION},
            "text/event-stream": {"example": _STREAM},
        },
    },
    **OPENAI_ERRORS,
    409: SESSION_BUSY,
    408: openai_error("The run took too long.", "timeout_error", "timeout", "The run was stopped."),
    413: TOO_LARGE,
    422: openai_error(
        "The agent's configuration no longer fits its template.",
        _REQUEST,
        "invalid_config",
        "template_config.tone: There is no such field.",
    ),
    429: openai_error(
        "Too many requests, here or at the model's provider; see Retry-After.",
        "rate_limit_error",
        "upstream_rate_limited",
        "The model's provider asks to wait.",
    ),
    500: openai_error("The agent's code failed.", "server_error", "execution_error", "It failed."),
    502: openai_error("The provider failed.", "server_error", "upstream_error", "It failed."),
    504: openai_error(
        "The provider is too slow.", "server_error", "upstream_timeout", "No answer."
    ),
}
