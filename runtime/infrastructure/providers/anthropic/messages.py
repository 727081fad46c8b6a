"""A conversation in OpenAI's terms as Anthropic's turns.

Turns alternate and begin with the user's; system messages stand beside them, wherever they were
said; results of tools are the user's. Blocks of text must not be blank.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)

Block = dict[str, Any]
_SYSTEM = (ChatRole.SYSTEM, ChatRole.DEVELOPER)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,")
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_LEFT_OUT = "(The beginning of the conversation is left out.)"


def system_blocks(messages: Iterable[Message]) -> list[Block]:
    texts = (message.text for message in messages if message.role in _SYSTEM)
    return [_text(text) for text in texts if text.strip()]


def turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Raises InvalidValue for a part that has no counterpart."""
    made: list[dict[str, Any]] = []
    for message in messages:
        if message.role in _SYSTEM:
            continue
        role = "assistant" if message.role == ChatRole.ASSISTANT else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        if made and made[-1]["role"] == role:
            made[-1]["content"] += blocks
        else:
            made.append({"role": role, "content": blocks})
    if made and made[0]["role"] == "assistant":
        made.insert(0, {"role": "user", "content": [_text(_LEFT_OUT)]})
    if made and made[-1]["role"] == "assistant":
        _strip_end(made[-1]["content"][-1])
    return made


def _blocks(message: Message) -> list[Block]:
    match message.role:
        case ChatRole.TOOL:
            result: Block = {
                "type": "tool_result",
                "tool_use_id": _id(message.tool_call_id or ""),
            }
            content = _parts(message)
            if content:
                result["content"] = content
            return [result]
        case ChatRole.ASSISTANT:
            blocks = _parts(message)
            if message.refusal and message.refusal.strip():
                blocks.append(_text(message.refusal))
            return blocks + [_tool_use(call) for call in message.tool_calls]
        case _:
            return _parts(message)


def _parts(message: Message) -> list[Block]:
    content = message.content
    parts: Sequence[ContentPart] = (TextPart(content),) if isinstance(content, str) else content
    return [_part(each) for each in parts if not (isinstance(each, TextPart) and _blank(each))]


def _blank(part: TextPart) -> bool:
    return not part.text.strip()


def _part(part: ContentPart) -> Block:
    match part:
        case TextPart():
            return _text(part.text)
        case ImagePart():
            return {"type": "image", "source": _image(part.url)}
        case FilePart():
            return _document(part)
        case AudioPart():
            raise InvalidValue("Anthropic's models take no audio.", param="messages")


def _image(url: str) -> Block:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    media_type, data = _data(url)
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: FilePart) -> Block:
    if file.data is None:
        raise InvalidValue(
            "Anthropic's models take a file by its data, not by an id.", param="messages"
        )
    media_type, data = _data(file.data)
    source: Block
    if media_type == "application/pdf":
        source = {"type": "base64", "media_type": media_type, "data": data}
    elif media_type == "text/plain":
        source = {"type": "text", "media_type": media_type, "data": _decoded(data)}
    else:
        raise InvalidValue(
            "Anthropic's models take files of the types application/pdf and text/plain.",
            param="messages",
        )
    block: Block = {"type": "document", "source": source}
    if file.filename:
        block["title"] = file.filename
    return block


def _data(url: str) -> tuple[str, str]:
    head = _DATA_URL.match(url)
    if head is None or not head.group(1):
        raise InvalidValue(
            "A file or an image is a data: URL with a media type, in base64.", param="messages"
        )
    return head.group(1), url[head.end() :]


def _decoded(data: str) -> str:
    try:
        return b64decode(data, validate=True).decode()
    except ValueError:
        raise InvalidValue("A text file is UTF-8 in base64.", param="messages") from None


def _tool_use(call: ToolCall) -> Block:
    return {
        "type": "tool_use",
        "id": _id(call.id),
        "name": call.name,
        "input": _input(call.arguments),
    }


def _input(arguments: str) -> Block:
    """The API wants an object even where the model once wrote none."""
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}


def _id(id: str) -> str:
    return _NOT_IN_ID.sub("_", id)


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _strip_end(block: Block) -> None:
    """The API refuses an answer to be gone on with that ends in blanks."""
    if block["type"] == "text":
        block["text"] = block["text"].rstrip()
