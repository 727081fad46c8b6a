"""Between the runtime's messages and langchain's, part by part in OpenAI's shapes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call

from runtime.domain.errors import ExecutionFailed
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

DEVELOPER = "__openai_role__"
"""Where langchain keeps that a system message was a developer's."""


def to_langchain(messages: Iterable[Message]) -> list[BaseMessage]:
    return [_to_langchain(message) for message in messages]


def _to_langchain(message: Message) -> BaseMessage:
    content = _content_out(message.content)
    match message.role:
        case ChatRole.USER:
            return HumanMessage(content, name=message.name)
        case ChatRole.SYSTEM:
            return SystemMessage(content, name=message.name)
        case ChatRole.DEVELOPER:
            kwargs = {DEVELOPER: "developer"}
            return SystemMessage(content, name=message.name, additional_kwargs=kwargs)
        case ChatRole.TOOL:
            return ToolMessage(content, tool_call_id=message.tool_call_id or "")
        case ChatRole.ASSISTANT:
            extra = {"refusal": message.refusal} if message.refusal else {}
            answer = assistant_message("", message.tool_calls)
            return answer.model_copy(
                update={"content": content, "name": message.name, "additional_kwargs": extra}
            )


def assistant_message(text: str, calls: Sequence[ToolCall], id: str | None = None) -> AIMessage:
    """A call whose arguments are no JSON object is kept as an invalid one, never executed."""
    if not calls:
        return AIMessage(text, id=id)
    good, bad = [], []
    for call in calls:
        try:
            arguments = orjson.loads(call.arguments or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if isinstance(arguments, dict):
            good.append(tool_call(name=call.name, args=arguments, id=call.id))
        else:
            problem = "The arguments are not a JSON object."
            bad.append(
                invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=problem)
            )
    return AIMessage(text, id=id, tool_calls=good, invalid_tool_calls=bad)


def _content_out(content: Content) -> str | list[str | dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [_part_out(part) for part in content]


def _part_out(part: ContentPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            image = {"url": part.url} | ({"detail": part.detail} if part.detail else {})
            return {"type": "image_url", "image_url": image}
        case AudioPart():
            audio = {"data": part.data, "format": part.format}
            return {"type": "input_audio", "input_audio": audio}
        case FilePart():
            file = {
                "file_id": part.file_id,
                "filename": part.filename,
                "file_data": part.data,
            }
            return {"type": "file", "file": {k: v for k, v in file.items() if v is not None}}


def from_langchain(messages: Iterable[BaseMessage]) -> list[Message]:
    """Raises ExecutionFailed for a message no model understands."""
    return [_from_langchain(message) for message in messages]


def _from_langchain(message: BaseMessage) -> Message:
    content = _content_in(message.content)
    match message:
        case HumanMessage():
            return Message(ChatRole.USER, content, name=message.name)
        case SystemMessage():
            developer = message.additional_kwargs.get(DEVELOPER) == "developer"
            role = ChatRole.DEVELOPER if developer else ChatRole.SYSTEM
            return Message(role, content, name=message.name)
        case ToolMessage():
            return Message(ChatRole.TOOL, content, tool_call_id=message.tool_call_id)
        case AIMessage():
            return Message(
                ChatRole.ASSISTANT,
                content,
                name=message.name,
                tool_calls=tool_calls_of(message),
                refusal=message.additional_kwargs.get("refusal"),
            )
        case ChatMessage() if message.role in set(ChatRole):
            return Message(ChatRole(message.role), content, name=message.name)
    raise ExecutionFailed(f"A message of the kind '{message.type}' can't be sent to a model.")


def tool_calls_of(message: AIMessage) -> tuple[ToolCall, ...]:
    good = (
        ToolCall(call["id"] or "", call["name"], orjson.dumps(call["args"]).decode())
        for call in message.tool_calls
    )
    bad = (
        ToolCall(call["id"] or "", call["name"] or "", call["args"] or "")
        for call in message.invalid_tool_calls
    )
    return (*good, *bad)


def _content_in(content: str | list[str | dict[str, Any]]) -> Content:
    if isinstance(content, str):
        return content
    return tuple(part for each in content if (part := _part_in(each)) is not None)


def _part_in(part: str | Mapping[str, Any]) -> ContentPart | None:
    """None for parts that are a model's own notes, such as its reasoning."""
    if isinstance(part, str):
        return TextPart(part)
    match part.get("type"):
        case "text":
            return TextPart(part["text"])
        case "image_url":
            image = part["image_url"]
            if isinstance(image, str):
                return ImagePart(image)
            return ImagePart(image["url"], image.get("detail"))
        case "image":
            if part.get("url"):
                return ImagePart(part["url"])
            return ImagePart(f"data:{part.get('mime_type', 'image/png')};base64,{part['base64']}")
        case "input_audio":
            return AudioPart(part["input_audio"]["data"], part["input_audio"]["format"])
        case "audio" if part.get("base64"):
            return AudioPart(part["base64"], _audio_format(part))
        case "file" if "file" in part:
            file = part["file"]
            return FilePart(file.get("file_id"), file.get("filename"), file.get("file_data"))
        case "file":
            return _standard_file(part)
    return None


def _audio_format(part: Mapping[str, Any]) -> str:
    return "mp3" if part.get("mime_type") in ("audio/mp3", "audio/mpeg") else "wav"


def _standard_file(part: Mapping[str, Any]) -> FilePart:
    """langchain rewrites OpenAI's file and audio parts into blocks of its own."""
    name = (part.get("extras") or {}).get("filename") or part.get("filename")
    data = part.get("base64")
    mime_type = part.get("mime_type", "application/octet-stream")
    return FilePart(part.get("file_id"), name, f"data:{mime_type};base64,{data}" if data else None)
