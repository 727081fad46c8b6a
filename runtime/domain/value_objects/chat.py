"""Messages and options in the shapes of OpenAI's chat completions, free of its wire format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Literal

MAX_MESSAGES = 4_096
"""In one conversation that is sent to an agent."""


class ChatRole(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    url: str
    """`https:` or `data:`."""
    detail: Literal["auto", "low", "high"] | None = None


@dataclass(frozen=True, slots=True)
class AudioPart:
    data: str
    """Base64."""
    format: str


@dataclass(frozen=True, slots=True)
class FilePart:
    file_id: str | None = None
    filename: str | None = None
    data: str | None = None
    """A `data:` URL."""


ContentPart = TextPart | ImagePart | AudioPart | FilePart
Content = str | tuple[ContentPart, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a function called."""

    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it; complete, though not necessarily valid."""


@dataclass(frozen=True, slots=True)
class Message:
    role: ChatRole
    content: Content = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def characters(self) -> int:
        """Of its text and of what is called."""
        calls = sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        return len(self.text) + calls


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function offered to a model."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """JSON Schema of the arguments object; empty means it takes none."""
    strict: bool | None = None

    @property
    def characters(self) -> int:
        parameters = json.dumps(self.parameters, default=dict) if self.parameters else ""
        return len(self.name) + len(self.description) + len(parameters)


ToolChoice = Literal["none", "auto", "required"] | str
"""A literal, or the name of the one function to call."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What a caller or a configuration asks of the model; None means "not asked"."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    response_format: Mapping[str, object] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Mapping[str, object] | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def given(self) -> Iterator[tuple[str, Any]]:
        """The options asked for, as (name, value)."""
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not None and value != ():
                yield option.name, value

    def over(self, fixed: "GenerationOptions") -> "GenerationOptions":
        """These options, with what `fixed` sets in their place."""
        given = dict(fixed.given())
        return replace(self, **given) if given else self

    def for_inner_call(self) -> "GenerationOptions":
        """What also holds for calls whose text is not the answer (routing, planning)."""
        return GenerationOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            reasoning_effort=self.reasoning_effort,
            user=self.user,
            safety_identifier=self.safety_identifier,
            prompt_cache_key=self.prompt_cache_key,
            prompt_cache_retention=self.prompt_cache_retention,
            prompt_cache_options=self.prompt_cache_options,
        )

    @property
    def token_limit(self) -> int | None:
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call, or of a run: then the sum over its calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens, those read from the provider's cache."""
    reasoning_tokens: int = 0
    """Of the output tokens, those spent thinking."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


NO_USAGE = Usage()
_CHARACTERS_PER_TOKEN = 4


def estimated_tokens(characters: int) -> int:
    """Where nobody has counted."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
