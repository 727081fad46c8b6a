"""Items of conversations and responses: `InputItem` and `ConversationItem` of OpenAI's OpenAPI
description. Ids that come in are not kept: an item that is added is a new one."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from runtime.domain.value_objects.chat import (
    ChatRole,
    Content,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)
from runtime.domain.value_objects.ids import new_item_id
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    ItemStatus,
    MessageItem,
    ReasoningItem,
)
from runtime.infrastructure.web.openai.wire_messages import MAX_PARTS, Name, Wire

MAX_TEXT = 10_485_760
SERVER_LABEL = "agent"
"""Stands where an MCP server's label does: the agent calls its tools itself."""

Text = Annotated[str, Field(max_length=MAX_TEXT)]


class InputTextIn(Wire):
    type: Literal["input_text"]
    text: Text

    def part(self) -> TextPart:
        return TextPart(self.text)


class InputImageIn(Wire):
    type: Literal["input_image"]
    image_url: str = Field(pattern=r"^(https?://|data:image/)")
    detail: Literal["auto", "low", "high"] | None = None

    def part(self) -> ImagePart:
        return ImagePart(self.image_url, self.detail)


class InputFileIn(Wire):
    type: Literal["input_file"]
    file_id: str | None = Field(default=None, min_length=1)
    filename: str | None = None
    file_data: str | None = Field(default=None, min_length=1)

    def part(self) -> FilePart:
        return FilePart(self.file_id, self.filename, self.file_data)


class OutputTextIn(Wire):
    type: Literal["output_text"]
    text: Text

    def part(self) -> TextPart:
        return TextPart(self.text)


class RefusalIn(Wire):
    type: Literal["refusal"]
    refusal: Text


InputPart = Annotated[InputTextIn | InputImageIn | InputFileIn, Field(discriminator="type")]
InputParts = Annotated[list[InputPart], Field(max_length=MAX_PARTS)]
OutputPart = Annotated[OutputTextIn | RefusalIn | InputTextIn, Field(discriminator="type")]
Status = ItemStatus | None


def _content(content: str | list[Any]) -> Content:
    return content if isinstance(content, str) else tuple(part.part() for part in content)


class MessageIn(Wire):
    """`EasyInputMessage` and `InputMessage`."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer"]
    content: Text | InputParts
    status: Status = None

    def item(self) -> Item:
        message = Message(ChatRole(self.role), _content(self.content))
        return MessageItem(new_item_id("msg"), message, self.status or "completed")


class AssistantMessageIn(Wire):
    """`EasyInputMessage` and `OutputMessage`."""

    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: Text | Annotated[list[OutputPart], Field(max_length=MAX_PARTS)]
    status: Status = None

    def item(self) -> Item:
        parts = [] if isinstance(self.content, str) else self.content
        refusal = "".join(part.refusal for part in parts if isinstance(part, RefusalIn))
        said = "".join(part.text for part in parts if not isinstance(part, RefusalIn))
        text = self.content if isinstance(self.content, str) else said
        message = Message(ChatRole.ASSISTANT, text, refusal=refusal or None)
        return MessageItem(new_item_id("msg"), message, self.status or "completed")


class FunctionCallIn(Wire):
    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Text
    status: Status = None

    def item(self) -> Item:
        call = ToolCall(self.call_id, self.name, self.arguments)
        return FunctionCallItem(new_item_id("fc"), call, self.status or "completed")


class FunctionCallOutputIn(Wire):
    type: Literal["function_call_output"]
    call_id: Name
    output: Text | InputParts
    status: Status = None

    def item(self) -> Item:
        return FunctionOutputItem(new_item_id("fco"), self.call_id, _content(self.output))


class ReasoningTextIn(Wire):
    type: Literal["reasoning_text", "summary_text"]
    text: Text


class ReasoningIn(Wire):
    type: Literal["reasoning"]
    summary: list[ReasoningTextIn] = Field(max_length=MAX_PARTS)
    content: list[ReasoningTextIn] | None = Field(default=None, max_length=MAX_PARTS)
    status: Status = None

    def item(self) -> Item:
        text = "".join(part.text for part in self.content or self.summary)
        return ReasoningItem(new_item_id("rs"), text, self.status or "completed")


class McpCallIn(Wire):
    type: Literal["mcp_call"]
    server_label: Name
    name: Name
    arguments: Text
    output: Text | None = None
    error: Text | dict[str, Any] | None = None
    status: Literal["in_progress", "completed", "incomplete", "calling", "failed"] | None = None

    def item(self) -> Item:
        id = new_item_id("mcp")
        ended = self.status in (None, "completed", "failed")
        status: ItemStatus = "completed" if ended else "incomplete"
        error = _error_text(self.error)
        return AgentToolItem(id, id, self.name, self.arguments, self.output, error, status)


def _error_text(error: str | dict[str, Any] | None) -> str | None:
    """Of the objects for errors that OpenAI has, the one that `wire_of` writes is read."""
    if not isinstance(error, dict):
        return error
    content = error.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and "text" in part]
    return "".join(map(str, texts)) or str(error.get("message", "error"))


def _kind(value: Any) -> str | None:  # noqa: ANN401 - whatever JSON or model pydantic is given
    """Easy messages need no `type`; an assistant's have parts of their own."""
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    kind = fields.get("type", "message")
    if kind == "message":
        return "assistant" if fields.get("role") == "assistant" else "message"
    return kind if isinstance(kind, str) else None


InputItem = Annotated[
    Annotated[MessageIn, Tag("message")]
    | Annotated[AssistantMessageIn, Tag("assistant")]
    | Annotated[FunctionCallIn, Tag("function_call")]
    | Annotated[FunctionCallOutputIn, Tag("function_call_output")]
    | Annotated[ReasoningIn, Tag("reasoning")]
    | Annotated[McpCallIn, Tag("mcp_call")],
    Discriminator(
        _kind,
        custom_error_type="unknown_item",
        custom_error_message="an item is a message, function_call, function_call_output, "
        "reasoning or mcp_call",
    ),
]


def item_of(
    wire: MessageIn
    | AssistantMessageIn
    | FunctionCallIn
    | FunctionCallOutputIn
    | ReasoningIn
    | McpCallIn,
) -> Item:
    """A new item, with an id of its own."""
    return wire.item()


def wire_of(item: Item) -> dict[str, Any]:
    """As it stands in a conversation, a list of input items and a response's output."""
    match item:
        case MessageItem(message=message):
            return {
                "id": item.id,
                "type": "message",
                "status": item.status,
                "role": message.role.value,
                "content": _message_parts(message, item.logprobs),
            }
        case FunctionCallItem(call=call):
            return {
                "id": item.id,
                "type": "function_call",
                "status": item.status,
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
        case FunctionOutputItem(output=output):
            parts = output if isinstance(output, str) else [_input_part(part) for part in output]
            return {
                "id": item.id,
                "type": "function_call_output",
                "status": "completed",
                "call_id": item.call_id,
                "output": parts,
            }
        case ReasoningItem():
            return {
                "id": item.id,
                "type": "reasoning",
                "status": item.status,
                "summary": [],
                "content": [{"type": "reasoning_text", "text": item.text}],
            }
        case AgentToolItem():
            return _mcp_call(item)


def _mcp_call(item: AgentToolItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "type": "mcp_call",
        "status": "failed" if item.error is not None else item.status,
        "server_label": SERVER_LABEL,
        "name": item.name,
        "arguments": item.arguments,
        "output": item.output,
        "error": None if item.error is None else _error(item.error),
        "approval_request_id": None,
    }


def _error(text: str) -> dict[str, Any]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


def _message_parts(message: Message, logprobs: Sequence[object]) -> list[dict[str, Any]]:
    if message.role is not ChatRole.ASSISTANT:
        content = message.content
        parts = (TextPart(content),) if isinstance(content, str) else content
        return [_input_part(part) for part in parts]
    said = [output_text(message.text, logprobs)] if message.text or not message.refusal else []
    refused = [{"type": "refusal", "refusal": message.refusal}] if message.refusal else []
    return said + refused


def output_text(text: str, logprobs: Sequence[object] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": log_probs(logprobs)}


def log_probs(tokens: Sequence[object]) -> list[dict[str, Any]]:
    """Chat completions' token objects as `LogProb`, where nothing may be missing."""
    return [
        {
            "token": token.get("token", ""),
            "logprob": token.get("logprob", 0.0),
            "bytes": token.get("bytes") or [],
            "top_logprobs": [
                {**other, "bytes": other.get("bytes") or []}
                for other in token.get("top_logprobs") or ()
            ],
        }
        for token in tokens
        if isinstance(token, dict)
    ]


def _input_part(part: ContentPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case ImagePart():
            detail = part.detail or "auto"
            return {"type": "input_image", "image_url": part.url, "file_id": None, "detail": detail}
        case FilePart():
            file = {"file_id": part.file_id, "filename": part.filename, "file_data": part.data}
            given = {name: value for name, value in file.items() if value is not None}
            return {"type": "input_file", **given}
    # OpenAI's conversations have no audio; as a file it is still all there.
    data = f"data:audio/{part.format};base64,{part.data}"
    return {"type": "input_file", "filename": f"audio.{part.format}", "file_data": data}
