"""What the OpenAPI document says of these routes' answers."""

from typing import Any

from runtime.infrastructure.web.openai.examples import CHAT_RESPONSES, OPENAI_ERRORS, openai_error

_MESSAGE = {
    "id": "msg_0199f2c0a6b07cc1b0a5c9b1f7d3e4a20000",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {"type": "output_text", "text": "Hello! How can I help?", "annotations": [], "logprobs": []}
    ],
}
_RESPONSE: dict[str, Any] = {
    "id": "resp_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2",
    "object": "response",
    "created_at": 1790000000,
    "completed_at": 1790000001,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "model": "assistant",
    "previous_response_id": None,
    "conversation": None,
    "output": [_MESSAGE],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 18,
    },
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "store": True,
}
_STREAM = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    '"sequence_number":4,"item_id":"msg_…","output_index":0,"content_index":0,"delta":"Hello",'
    '"logprobs":[]}\n\n'
)


def _answer(description: str, example: object, **more: object) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}, **more}
    return {200: {"description": description, "content": content}}


_NOT_FOUND = openai_error(
    "There is no such response of this caller.",
    "invalid_request_error",
    "response_not_found",
    "Response with id 'resp_…' not found.",
)
_CONFLICT = openai_error(
    "It is still in progress.",
    "invalid_request_error",
    "response_in_progress",
    "Response 'resp_…' is still in progress; cancel it first.",
)
_EVENTS = {"text/event-stream": {"example": _STREAM}}
CREATED = {
    **CHAT_RESPONSES,
    **_answer("The response, or with `stream` its events.", _RESPONSE, **_EVENTS),
    409: _CONFLICT,
}
RETRIEVED = {
    **OPENAI_ERRORS,
    **_answer("The response, or with `stream` its events.", _RESPONSE, **_EVENTS),
    404: _NOT_FOUND,
    409: openai_error(
        "It was written at the same time.",
        "invalid_request_error",
        "concurrent_change",
        "Response 'resp_…' was changed at the same time; read it again and repeat.",
    ),
}
DELETED = {
    **OPENAI_ERRORS,
    **_answer("It is gone.", {"id": _RESPONSE["id"], "object": "response", "deleted": True}),
    404: _NOT_FOUND,
    409: _CONFLICT,
}
_INPUT = {
    "id": "msg_0199f2c0a6b07cc1b0a5c9b1f7d3e4a3",
    "type": "message",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hello"}],
}
INPUT_ITEMS = {
    **OPENAI_ERRORS,
    **_answer(
        "A page of items.",
        {
            "object": "list",
            "data": [_INPUT],
            "first_id": _INPUT["id"],
            "last_id": _INPUT["id"],
            "has_more": False,
        },
    ),
    404: _NOT_FOUND,
}
COUNTED = {
    **OPENAI_ERRORS,
    **_answer("The count.", {"object": "response.input_tokens", "input_tokens": 12}),
    409: _CONFLICT,
}
