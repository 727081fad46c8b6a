"""What a caller may ask of a model, in the shapes of OpenAI's chat completions."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, field_validator, model_validator

from runtime.domain.errors import InvalidValue, UnsupportedParameter
from runtime.domain.value_objects.chat import GenerationOptions, ToolChoice, ToolSpec
from runtime.infrastructure.web.openai.wire_messages import MAX_TOOLS, Name, Wire

MAX_STOP = 1_000
MAX_SCHEMA_BYTES = 64_000
MAX_ANSWER_SCHEMA_BYTES = 512_000
"""OpenAI takes 5,000 properties and 120,000 characters of names."""
MAX_METADATA_BYTES = 16_000


def at_most(max_bytes: int) -> AfterValidator:
    def check(value: dict[str, Any]) -> dict[str, Any]:
        if len(orjson.dumps(value)) > max_bytes:
            raise ValueError(f"it is larger than {max_bytes} bytes as JSON")
        return value

    return AfterValidator(check)


Schema = Annotated[dict[str, Any], at_most(MAX_SCHEMA_BYTES)]
AnswerSchema = Annotated[dict[str, Any], at_most(MAX_ANSWER_SCHEMA_BYTES)]
Metadata = Annotated[dict[str, Any], Field(max_length=64), at_most(MAX_METADATA_BYTES)]
Bias = Annotated[float, Field(ge=-100, le=100)]


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


class AllowedTools(Wire):
    mode: Literal["auto", "required"]
    tools: list[NamedToolChoice] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolsChoice(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool.function.name for tool in self.allowed_tools.tools)


class PromptCacheOptions(Wire):
    ttl: Name | None = None
    mode: Name | None = None


class JsonSchemaIn(Wire):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=10_000)
    schema_: AnswerSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormatIn(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaIn | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ResponseFormatIn":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is required with this type")
        return self


class ModelOptionsIn(Wire):
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Bias] | None = Field(default=None, max_length=1_024)
    reasoning_effort: str | None = Field(default=None, max_length=32)
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: ResponseFormatIn | None = None
    tools: list[ToolIn] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: (
        Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice | None
    ) = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)
    prompt_cache_key: str | None = Field(default=None, max_length=512)
    prompt_cache_retention: Name | None = None
    prompt_cache_options: PromptCacheOptions | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and not 1 <= len(stop) <= 4:
            raise ValueError("give 1 to 4 stop sequences")
        each = stop if isinstance(stop, list) else [stop or "none"]
        if not all(1 <= len(text) <= MAX_STOP for text in each):
            raise ValueError(f"a stop sequence is 1 to {MAX_STOP} characters")
        return stop

    def check_options(self) -> None:
        """Raises UnsupportedParameter for what goes with something that is not there, InvalidValue
        for tools that don't fit together."""
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise UnsupportedParameter("tool_choice", "it goes with 'tools'.")
        if self.parallel_tool_calls is not None and not self.tools:
            raise UnsupportedParameter("parallel_tool_calls", "it goes with 'tools'.")
        self._check_tools()

    def _check_tools(self) -> None:
        """Raises InvalidValue for names that are taken twice, or chosen and not there."""
        offered = [tool.function.name for tool in self.tools or ()]
        for index, name in enumerate(offered):
            if name in offered[:index]:
                raise InvalidValue(
                    f"There is another tool named '{name}'.", param=f"tools.{index}.function.name"
                )
        match self.tool_choice:
            case NamedToolChoice(function=function):
                chosen = {function.name}
            case AllowedToolsChoice():
                chosen = set(self.tool_choice.names)
            case _:
                return
        if unknown := sorted(chosen.difference(offered)):
            raise InvalidValue(
                f"'tools' has no function named '{unknown[0]}'.", param="tool_choice"
            )

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
            reasoning_effort=self.reasoning_effort,
            verbosity=self.verbosity,
            response_format=response_format.model_dump(by_alias=True, exclude_none=True)
            if response_format and response_format.type != "text"
            else None,
            user=self.user,
            safety_identifier=self.safety_identifier,
            prompt_cache_key=self.prompt_cache_key,
            prompt_cache_retention=self.prompt_cache_retention,
            prompt_cache_options=self.prompt_cache_options.model_dump(exclude_none=True)
            if self.prompt_cache_options
            else None,
            tools=self._tools(),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def _tools(self) -> tuple[ToolSpec, ...]:
        """Those that may be called: what the choice rules out is not offered."""
        choice = self.tool_choice
        return tuple(
            tool.spec()
            for tool in self.tools or ()
            if not isinstance(choice, AllowedToolsChoice) or tool.function.name in choice.names
        )

    def _tool_choice(self) -> ToolChoice | None:
        match self.tool_choice:
            case NamedToolChoice(function=function):
                return function.name
            case AllowedToolsChoice(allowed_tools=allowed):
                return allowed.mode
            case choice:
                return choice
