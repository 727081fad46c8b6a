"""The messages of `POST /v1/chat/completions`: `ChatCompletionRequestMessage` of OpenAI's OpenAPI
description."""

from collections.abc import Sequence, Set
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.domain.errors import InvalidValue, UnsupportedParameter
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    Content,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)

MAX_TOOLS = 128
MAX_PARTS = 256
MAX_NAME = 256

Name = Annotated[str, Field(max_length=MAX_NAME)]


class Wire(BaseModel):
    model_config = ConfigDict(strict=True)


class TextPartIn(Wire):
    type: Literal["text"]
    text: str

    def part(self) -> TextPart:
        return TextPart(self.text)


class RefusalPartIn(Wire):
    type: Literal["refusal"]
    refusal: str

    def part(self) -> TextPart:
        return TextPart(self.refusal)


class ImageUrl(Wire):
    url: str = Field(pattern=r"^(https?://|data:image/)")
    detail: Literal["auto", "low", "high"] | None = None


class ImagePartIn(Wire):
    type: Literal["image_url"]
    image_url: ImageUrl

    def part(self) -> ImagePart:
        return ImagePart(self.image_url.url, self.image_url.detail)


class InputAudio(Wire):
    data: str = Field(min_length=1)
    format: Literal["wav", "mp3"]


class AudioPartIn(Wire):
    type: Literal["input_audio"]
    input_audio: InputAudio

    def part(self) -> AudioPart:
        return AudioPart(self.input_audio.data, self.input_audio.format)


def _given(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"type": "string"}}}


class FileIn(Wire):
    model_config = ConfigDict(
        strict=True, json_schema_extra={"anyOf": [_given("file_id"), _given("file_data")]}
    )

    file_id: str | None = Field(default=None, min_length=1)
    filename: str | None = None
    file_data: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _has_content(self) -> "FileIn":
        if self.file_id is None and self.file_data is None:
            raise ValueError("file_id or file_data is required")
        return self


class FilePartIn(Wire):
    type: Literal["file"]
    file: FileIn

    def part(self) -> FilePart:
        return FilePart(self.file.file_id, self.file.filename, self.file.file_data)


Part = Annotated[
    TextPartIn | RefusalPartIn | ImagePartIn | AudioPartIn | FilePartIn,
    Field(discriminator="type"),
]
Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]
TextParts = Annotated[list[TextPartIn], Field(min_length=1, max_length=MAX_PARTS)]


def _content(content: str | list[Any] | None) -> Content:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return tuple(part.part() for part in content)


class SystemMessageIn(Wire):
    role: Literal["system", "developer"]
    content: str | TextParts
    name: Name | None = None

    def message(self) -> Message:
        return Message(ChatRole(self.role), _content(self.content), name=self.name)


class UserMessageIn(Wire):
    role: Literal["user"]
    content: str | Parts
    name: Name | None = None

    def message(self) -> Message:
        return Message(ChatRole.USER, _content(self.content), name=self.name)


class FunctionCallIn(Wire):
    name: Name
    arguments: str


class ToolCallIn(Wire):
    id: Name
    type: Literal["function"] = "function"
    function: FunctionCallIn

    def call(self) -> ToolCall:
        return ToolCall(self.id, self.function.name, self.function.arguments)


class AssistantMessageIn(Wire):
    role: Literal["assistant"]
    content: str | Parts | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallIn] | None = Field(default=None, max_length=MAX_TOOLS)
    audio: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessageIn":
        said = (self.content, self.refusal, self.tool_calls, self.audio, self.function_call)
        if all(each is None for each in said):
            raise ValueError("content is required where there are no tool_calls")
        return self

    def message(self) -> Message:
        return Message(
            ChatRole.ASSISTANT,
            _content(self.content),
            name=self.name,
            refusal=self.refusal,
            tool_calls=tuple(call.call() for call in self.tool_calls or ()),
        )


class ToolMessageIn(Wire):
    role: Literal["tool"]
    content: str | TextParts
    tool_call_id: Name

    def message(self) -> Message:
        return Message(ChatRole.TOOL, _content(self.content), tool_call_id=self.tool_call_id)


MessageIn = Annotated[
    SystemMessageIn | UserMessageIn | AssistantMessageIn | ToolMessageIn,
    Field(discriminator="role"),
]


def check_messages(messages: Sequence[MessageIn], *, begun: bool) -> None:
    """Every call has its result, and every result its call. `begun`: the first messages may be
    results of calls made earlier in the conversation.

    Raises InvalidValue, and UnsupportedParameter for what agents can't be told.
    """
    calls: set[str] = set()
    unanswered: set[str] = set()
    called_at = 0
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessageIn):
            if message.tool_call_id not in calls and not begun:
                raise _uncalled(index, calls)
            unanswered.discard(message.tool_call_id)
            continue
        if unanswered:
            break
        begun = False
        calls = set()
        if isinstance(message, AssistantMessageIn):
            _check_spoken(message, f"messages.{index}")
            calls = {call.id for call in message.tool_calls or ()}
        unanswered, called_at = set(calls), index
    if unanswered:
        raise InvalidValue(
            "An assistant message with 'tool_calls' is followed by a message with the role 'tool' "
            f"for each of them; here {len(unanswered)} of {len(calls)} are missing.",
            param=f"messages.{called_at}.tool_calls",
        )


def _uncalled(index: int, calls: Set[str]) -> InvalidValue:
    if calls:
        return InvalidValue(
            "The assistant message before it has no call with this id in its 'tool_calls'.",
            param=f"messages.{index}.tool_call_id",
        )
    return InvalidValue(
        "A message with the role 'tool' is a response to a preceding message with 'tool_calls'.",
        param=f"messages.{index}.role",
    )


def _check_spoken(message: AssistantMessageIn, at: str) -> None:
    if message.audio is not None:
        raise UnsupportedParameter(f"{at}.audio", "agents read text; send the transcript.")
    if message.function_call is not None:
        raise UnsupportedParameter(f"{at}.function_call", "use 'tool_calls'.")
