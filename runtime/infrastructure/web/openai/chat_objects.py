"""The parts of `CreateChatCompletionResponse` of OpenAI's OpenAPI description."""

from collections.abc import Iterable
from typing import Any

from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import (
    ContentPart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    Usage,
)
from runtime.domain.value_objects.ids import CompletionId, made_at


def head(id: CompletionId, model: str, fingerprint: str, kind: str) -> dict[str, Any]:
    return {
        "id": id,
        "object": kind,
        "created": int(made_at(id).timestamp()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{fingerprint}",
    }


def choice_object(index: int, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or (None if answer.tool_calls or answer.refusal else ""),
        "refusal": answer.refusal,
        "annotations": list(answer.annotations),
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = _tool_calls(answer.tool_calls)
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(answer),
        "finish_reason": answer.finish_reason,
    }


def _logprobs(answer: Answer) -> dict[str, Any] | None:
    if not (answer.logprobs or answer.refusal_logprobs):
        return None
    return {"content": answer.logprobs or None, "refusal": answer.refusal_logprobs or None}


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def asked_object(id: str, message: Message) -> dict[str, Any]:
    """An item of `ChatCompletionMessageList`."""
    wire: dict[str, Any] = {
        "id": id,
        "role": message.role,
        "content": message.text or (None if message.tool_calls or message.refusal else ""),
        "name": message.name,
        "refusal": message.refusal,
        "content_parts": None if isinstance(message.content, str) else _parts(message.content),
    }
    if message.tool_calls:
        wire["tool_calls"] = _tool_calls(message.tool_calls)
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _tool_calls(calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def _parts(parts: Iterable[ContentPart]) -> list[dict[str, Any]]:
    """OpenAI shows text and images."""
    shown: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart():
                shown.append({"type": "text", "text": part.text})
            case ImagePart():
                image = {"url": part.url, "detail": part.detail or "auto"}
                shown.append({"type": "image_url", "image_url": image})
            case _:
                pass
    return shown
