"""The body of `POST /chat/completions`."""

from collections.abc import Mapping
from typing import Any

import orjson

from runtime.domain.errors import InvalidValue
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import (
    AudioPart,
    ContentPart,
    FilePart,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolSpec,
)

_CHOICES = ("none", "auto", "required")


def request_body(call: ModelCall, model: str) -> bytes:
    """Raises InvalidValue for what JSON can't say, such as half a surrogate pair."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in call.messages],
        **_options(call.options),
        "stream": call.stream,
    }
    if call.stream:
        body["stream_options"] = {"include_usage": True}
    try:
        return orjson.dumps(body, default=_plain)
    except orjson.JSONEncodeError:
        raise InvalidValue(
            "The call holds text or numbers that JSON can't carry.", param="messages"
        ) from None


def _message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.refusal is not None:
        wire["refusal"] = message.refusal
    return wire


def _content(message: Message) -> str | list[dict[str, Any]] | None:
    if not isinstance(message.content, str):
        return [_part(part) for part in message.content]
    if not message.content and (message.tool_calls or message.refusal is not None):
        return None
    return message.content


def _part(part: ContentPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            image = _given({"url": part.url, "detail": part.detail})
            return {"type": "image_url", "image_url": image}
        case AudioPart():
            audio = {"data": part.data, "format": part.format}
            return {"type": "input_audio", "input_audio": audio}
        case FilePart():
            file = {"file_id": part.file_id, "filename": part.filename, "file_data": part.data}
            return {"type": "file", "file": _given(file)}


def _options(options: GenerationOptions) -> dict[str, Any]:
    wire = dict(options.given())
    if options.tools:
        wire["tools"] = [_tool(tool) for tool in options.tools]
    if options.tool_choice is not None and options.tool_choice not in _CHOICES:
        wire["tool_choice"] = {"type": "function", "function": {"name": options.tool_choice}}
    return wire


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description or None,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": tool.strict,
    }
    return {"type": "function", "function": _given(function)}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
