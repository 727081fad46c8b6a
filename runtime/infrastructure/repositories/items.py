"""Items of conversations as JSON, the way they are stored: defaults are left out."""

from collections.abc import Mapping
from typing import Any

from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    Content,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)


def to_json(item: Item) -> dict[str, Any]:
    data = {"id": item.id, **_given(_fields(item))}
    if not isinstance(item, FunctionOutputItem) and item.status != "completed":
        data["status"] = item.status
    return data


def _fields(item: Item) -> dict[str, Any]:
    match item:
        case MessageItem(message=message):
            return {
                "type": "message",
                "role": message.role.value,
                "content": _content_out(message.content),
                "name": message.name,
                "refusal": message.refusal,
                "call_id": message.tool_call_id,
                "calls": [_call_out(call) for call in message.tool_calls] or None,
                "logprobs": list(item.logprobs) or None,
            }
        case FunctionCallItem(call=call):
            return {"type": "function_call", **_call_out(call)}
        case FunctionOutputItem():
            output = _content_out(item.output)
            return {"type": "function_output", "call_id": item.call_id, "output": output}
        case ReasoningItem():
            return {"type": "reasoning", "text": item.text}
        case AgentToolItem():
            return {
                "type": "agent_tool",
                "call_id": item.call_id,
                "name": item.name,
                "arguments": item.arguments,
                "output": item.output,
                "error": item.error,
            }


def from_json(data: Mapping[str, Any]) -> Item:
    id, status = data["id"], data.get("status", "completed")
    match data["type"]:
        case "message":
            message = Message(
                ChatRole(data["role"]),
                _content_in(data["content"]),
                name=data.get("name"),
                refusal=data.get("refusal"),
                tool_call_id=data.get("call_id"),
                tool_calls=tuple(_call_in(call) for call in data.get("calls", ())),
            )
            return MessageItem(id, message, status, tuple(data.get("logprobs", ())))
        case "function_call":
            return FunctionCallItem(id, _call_in(data), status)
        case "function_output":
            return FunctionOutputItem(id, data["call_id"], _content_in(data["output"]))
        case "reasoning":
            return ReasoningItem(id, data["text"], status)
        case "agent_tool":
            return AgentToolItem(
                id,
                data["call_id"],
                data["name"],
                data["arguments"],
                data.get("output"),
                data.get("error"),
                status,
            )
    raise ValueError(f"an item of the kind '{data['type']}' is stored, which this version lacks")


def _call_out(call: ToolCall) -> dict[str, str]:
    return {"call_id": call.id, "name": call.name, "arguments": call.arguments}


def _call_in(data: Mapping[str, Any]) -> ToolCall:
    return ToolCall(data["call_id"], data["name"], data["arguments"])


def _content_out(content: Content) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part_out(part) for part in content]


def _content_in(content: str | list[dict[str, Any]]) -> Content:
    return content if isinstance(content, str) else tuple(_part_in(part) for part in content)


def _part_out(part: ContentPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return _given({"type": "image", "url": part.url, "detail": part.detail})
        case AudioPart():
            return {"type": "audio", "data": part.data, "format": part.format}
        case FilePart():
            file = {"file_id": part.file_id, "filename": part.filename, "data": part.data}
            return {"type": "file", **_given(file)}


def _part_in(data: Mapping[str, Any]) -> ContentPart:
    match data["type"]:
        case "text":
            return TextPart(data["text"])
        case "image":
            return ImagePart(data["url"], data.get("detail"))
        case "audio":
            return AudioPart(data["data"], data["format"])
        case "file":
            return FilePart(data.get("file_id"), data.get("filename"), data.get("data"))
    raise ValueError(f"a part of the kind '{data['type']}' is stored, which this version lacks")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
