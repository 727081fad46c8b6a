"""The request of `POST /v1/chat/completions`: `CreateChatCompletionRequest` of OpenAI's OpenAPI
description. Fields that are not OpenAI's are tolerated; wrong types name the field."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.domain.errors import UnsupportedParameter
from runtime.domain.value_objects.chat import (
    MAX_MESSAGES,
    AudioPart,
    ChatRole,
    Content,
    FilePart,
    GenerationOptions,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)

MAX_CHOICES = 16
MAX_TOOLS = 128
MAX_PARTS = 256
MAX_NAME = 256
MAX_STOP = 1_000
MAX_SCHEMA_BYTES = 64_000
MAX_METADATA_BYTES = 16_000


def _at_most(max_bytes: int) -> AfterValidator:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        if len(orjson.dumps(value)) > max_bytes:
            raise ValueError(f"it is larger than {max_bytes} bytes as JSON")
        return value

    return AfterValidator(check)


Name = Annotated[str, Field(max_length=MAX_NAME)]
Schema = Annotated[dict[str, Any], _at_most(MAX_SCHEMA_BYTES)]
Metadata = Annotated[dict[str, Any], Field(max_length=64), _at_most(MAX_METADATA_BYTES)]
Bias = Annotated[float, Field(ge=-100, le=100)]


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
Parts = Annotated[list[Part], Field(max_length=MAX_PARTS)]
TextParts = Annotated[list[TextPartIn], Field(max_length=MAX_PARTS)]


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
    content: str | Annotated[Parts, Field(min_length=1)]
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


class FunctionIn(Wire):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=10_000)
    parameters: Schema | None = None
    strict: bool | None = None


class ToolIn(Wire):
    type: Literal["function"]
    function: FunctionIn

    def spec(self) -> ToolSpec:
        function = self.function
        return ToolSpec(
            function.name, function.description or "", function.parameters or {}, function.strict
        )


class NamedFunction(Wire):
    name: Name


class NamedToolChoice(Wire):
    type: Literal["function"]
    function: NamedFunction


class JsonSchemaIn(Wire):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=10_000)
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormatIn(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaIn | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ResponseFormatIn":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is required with this type")
        return self


class StreamOptionsIn(Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionRequest(Wire):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "assistant",
                    "messages": [{"role": "user", "content": "Hello! What can you do?"}],
                },
                {
                    "model": "support@v1",
                    "stream": True,
                    "stream_options": {"include_usage": True},
                    "messages": [{"role": "user", "content": "Where is my order?"}],
                },
            ]
        },
    )

    model: str = Field(
        min_length=1,
        max_length=200,
        description="A published agent: `support`, `support@v7`, `support@draft`, or an agent id.",
    )
    messages: list[MessageIn] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptionsIn | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    stop: str | list[str] | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Bias] | None = Field(default=None, max_length=1_024)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning_effort: str | None = Field(default=None, max_length=32)
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: ResponseFormatIn | None = None
    tools: list[ToolIn] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)
    prompt_cache_key: str | None = Field(default=None, max_length=512)
    metadata: Metadata | None = Field(
        default=None,
        description="`session_id` makes this a turn of that session; all is kept with the run.",
    )
    service_tier: str | None = Field(default=None, max_length=32)
    store: bool | None = None
    modalities: list[Name] | None = Field(default=None, max_length=8)
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and not 1 <= len(stop) <= 4:
            raise ValueError("give 1 to 4 stop sequences")
        each = stop if isinstance(stop, list) else [stop or "none"]
        if not all(1 <= len(text) <= MAX_STOP for text in each):
            raise ValueError(f"a stop sequence is 1 to {MAX_STOP} characters")
        return stop

    def check_supported(self) -> None:
        """Raises UnsupportedParameter, naming what would otherwise have no effect."""
        for name, why in _UNSUPPORTED.items():
            if getattr(self, name):
                raise UnsupportedParameter(name, why)
        if self.modalities and self.modalities != ["text"]:
            raise UnsupportedParameter("modalities", "agents answer in text.")
        if self.service_tier not in (None, "auto", "default"):
            raise UnsupportedParameter("service_tier", "there is one tier; leave it at 'auto'.")
        if self.stream_options and not self.stream:
            raise UnsupportedParameter("stream_options", "it goes with 'stream': true.")
        if self.top_logprobs is not None and not self.logprobs:
            raise UnsupportedParameter("top_logprobs", "it goes with 'logprobs': true.")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise UnsupportedParameter("tool_choice", "it goes with 'tools'.")
        if self.parallel_tool_calls is not None and not self.tools:
            raise UnsupportedParameter("parallel_tool_calls", "it goes with 'tools'.")

    def options(self) -> GenerationOptions:
        response_format = self.response_format
        stop = self.stop
        return GenerationOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            max_completion_tokens=self.max_completion_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop) if stop else None,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias or None,
            logprobs=self.logprobs or None,
            top_logprobs=self.top_logprobs,
            reasoning_effort=self.reasoning_effort,
            verbosity=self.verbosity,
            response_format=response_format.model_dump(by_alias=True, exclude_none=True)
            if response_format and response_format.type != "text"
            else None,
            user=self.user,
            safety_identifier=self.safety_identifier,
            prompt_cache_key=self.prompt_cache_key,
            tools=tuple(tool.spec() for tool in self.tools or ()),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def _tool_choice(self) -> ToolChoice | None:
        if isinstance(self.tool_choice, NamedToolChoice):
            return self.tool_choice.function.name
        return self.tool_choice


_UNSUPPORTED = {
    "store": "answers are not stored by this endpoint.",
    "audio": "agents answer in text.",
    "prediction": "predicted outputs are not available for agents.",
    "web_search_options": "grant the agent a search tool instead.",
    "functions": "use 'tools'.",
    "function_call": "use 'tool_choice'.",
}
