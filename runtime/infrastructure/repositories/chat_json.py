"""Messages and answers as JSON, for columns that hold them whole."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    Usage,
)

_PARTS: Mapping[str, type[ContentPart]] = {
    "text": TextPart,
    "image": ImagePart,
    "audio": AudioPart,
    "file": FilePart,
}
_KINDS = {part: kind for kind, part in _PARTS.items()}


def message_json(message: Message) -> dict[str, Any]:
    content = message.content
    if not isinstance(content, str):
        parts = [{"kind": _KINDS[type(part)], **asdict(part)} for part in content]
        return {**asdict(message), "content": parts}
    return asdict(message)


def message_of(stored: Mapping[str, Any]) -> Message:
    content = stored["content"]
    return Message(
        role=ChatRole(stored["role"]),
        content=content if isinstance(content, str) else tuple(_part(part) for part in content),
        name=stored["name"],
        tool_calls=tuple(ToolCall(**call) for call in stored["tool_calls"]),
        tool_call_id=stored["tool_call_id"],
        refusal=stored["refusal"],
    )


def _part(stored: Mapping[str, Any]) -> ContentPart:
    fields = {name: value for name, value in stored.items() if name != "kind"}
    return _PARTS[stored["kind"]](**fields)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Without its events."""
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "refusal": answer.refusal,
        "tool_calls": [asdict(call) for call in answer.tool_calls],
        "logprobs": list(answer.logprobs),
        "refusal_logprobs": list(answer.refusal_logprobs),
        "annotations": list(answer.annotations),
        "finish_reason": answer.finish_reason,
        "usage": asdict(answer.usage),
    }


def answer_of(stored: Mapping[str, Any]) -> Answer:
    calls = [ToolCall(**call) for call in stored["tool_calls"]]
    return Answer(**{**stored, "tool_calls": calls, "usage": Usage(**stored["usage"])})
