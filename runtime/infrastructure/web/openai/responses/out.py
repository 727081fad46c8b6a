"""The object `Response` of OpenAI's OpenAPI description."""

from datetime import datetime
from typing import Any

from runtime.domain.entities.responses import Response, ResponseStatus
from runtime.domain.value_objects.chat import Usage
from runtime.infrastructure.redaction import redacted
from runtime.infrastructure.web.openai.items import wire_of


def response_out(response: Response) -> dict[str, Any]:
    failure, reason = response.failure, response.incomplete_reason
    return {
        "id": response.id,
        "object": "response",
        "created_at": _unix(response.created_at),
        "completed_at": response.completed_at and _unix(response.completed_at),
        "status": response.status,
        "background": response.background,
        "error": failure and {"code": failure.code, "message": redacted(failure.message)},
        "incomplete_details": reason and {"reason": reason},
        "model": response.model,
        "previous_response_id": response.previous_id,
        "conversation": {"id": response.conversation} if response.conversation else None,
        "output": [wire_of(item) for item in response.output],
        **({"usage": usage_out(response.usage)} if response.usage else {}),
        **response.settings,
    }


def usage_out(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _unix(at: datetime) -> int:
    return int(at.timestamp())


EVENT_OF = {
    ResponseStatus.COMPLETED: "response.completed",
    ResponseStatus.INCOMPLETE: "response.incomplete",
    ResponseStatus.FAILED: "response.failed",
    # OpenAI's stream has no event of its own for it; the object says "cancelled".
    ResponseStatus.CANCELLED: "response.failed",
}
