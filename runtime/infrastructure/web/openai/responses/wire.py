"""The request of `POST /v1/responses`: `CreateResponse` of OpenAI's OpenAPI description. Fields
that are not OpenAI's are tolerated; wrong types name the field."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from runtime.application.commands.responses import Asked, CreateResponse
from runtime.domain.errors import InvalidValue, UnsupportedParameter
from runtime.domain.value_objects.chat import (
    MAX_MESSAGES,
    ChatRole,
    GenerationOptions,
    Message,
    ToolChoice,
    ToolSpec,
)
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ResponseId, UserId, new_item_id
from runtime.domain.value_objects.items import Item, MessageItem
from runtime.infrastructure.web.openai.items import InputItem, Text, item_of
from runtime.infrastructure.web.openai.wire import ServiceTier
from runtime.infrastructure.web.openai.wire_messages import MAX_TOOLS, Name, Wire
from runtime.infrastructure.web.openai.wire_options import AnswerSchema, Schema

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
"""`IncludeEnum`. What is not a matter of agents is taken, and adds nothing."""
Label = Annotated[str, Field(max_length=512)]
Id = Annotated[str, Field(min_length=1, max_length=256)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _form(value: Any) -> str | None:  # noqa: ANN401 - JSON, or what it was made
    """Tags that stand for types, which are left out where a parameter is named."""
    match value:
        case str():
            return "str"
        case list():
            return "list[item]"
        case dict() | Wire():
            return "dict[object]"
        case _:
            return None


def _either(or_else: str) -> Discriminator:
    return Discriminator(
        _form,
        custom_error_type="wrong_form",
        custom_error_message=f"it is a text or {or_else}",
    )


class FunctionToolIn(Wire):
    type: str = Field(max_length=64, examples=["function"])
    name: FunctionName | None = None
    description: str | None = Field(default=None, max_length=10_000)
    parameters: Schema | None = None
    strict: bool | None = None

    def spec(self) -> ToolSpec:
        return ToolSpec(self.name or "", self.description or "", self.parameters or {}, self.strict)

    def echo(self) -> dict[str, Any]:
        return {"description": None, "parameters": None, "strict": None, **self.model_dump()}


class ToolChoiceIn(Wire):
    """`ToolChoiceFunction` and `ToolChoiceAllowed`; other types are refused by name."""

    type: str = Field(max_length=64, examples=["function"])
    name: Name | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_TOOLS)


class TextFormatIn(Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = Field(default=None, max_length=10_000)
    schema_: AnswerSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextIn(Wire):
    format: TextFormatIn | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningIn(Wire):
    effort: str | None = Field(default=None, max_length=32)
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptionsIn(Wire):
    include_obfuscation: bool | None = None


class ConversationIn(Wire):
    id: Id


Input = Annotated[
    Annotated[Text, Tag("str")]
    | Annotated[
        Annotated[list[InputItem], Field(max_length=MAX_MESSAGES)],
        Tag("list[item]"),
    ],
    _either("a list of items"),
]
Conversation = Annotated[
    Annotated[Id, Tag("str")] | Annotated[ConversationIn, Tag("dict[object]")],
    _either("an object with an id"),
]


class ContextIn(Wire):
    """What says of a request how many tokens go in."""

    input: Input | None = None
    instructions: Text | None = Field(
        default=None, description="A system message of this response alone."
    )
    previous_response_id: Id | None = None
    conversation: Conversation | None = None
    tools: list[FunctionToolIn] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceIn | None = None
    parallel_tool_calls: bool | None = None
    text: TextIn | None = None
    reasoning: ReasoningIn | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def conversation_id(self) -> str | None:
        given = self.conversation
        return given.id if isinstance(given, ConversationIn) else given

    def check_supported(self) -> None:
        """Raises UnsupportedParameter, naming what would otherwise have no effect."""
        for index, tool in enumerate(self.tools or ()):
            if tool.type != "function":
                raise UnsupportedParameter(
                    f"tools.{index}.type", f"'{tool.type}': grant the agent a tool instead."
                )
            if tool.name is None:
                raise InvalidValue("A function has a name.", param=f"tools.{index}.name")
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidValue(
                "Give either 'previous_response_id' or 'conversation'.", param="conversation"
            )
        if not (self.conversation_id or "conv_").startswith("conv_"):
            raise InvalidValue(
                "The id of a conversation begins with 'conv_'.", param="conversation"
            )
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise UnsupportedParameter("tool_choice", "it goes with 'tools'.")
        if self.parallel_tool_calls is not None and not self.tools:
            raise UnsupportedParameter("parallel_tool_calls", "it goes with 'tools'.")
        text = self.text and self.text.format
        if text and text.type == "json_schema" and not (text.name and text.schema_ is not None):
            raise InvalidValue(
                "A json_schema format has a 'name' and a 'schema'.", param="text.format"
            )

    def asked(self) -> Asked:
        previous = self.previous_response_id
        return Asked(
            input=self._items(),
            instructions=self.instructions,
            previous_id=ResponseId(previous) if previous else None,
            conversation=self.conversation_id,
            truncate=self.truncation == "auto",
        )

    def _items(self) -> list[Item]:
        if isinstance(self.input, str):
            return [MessageItem(new_item_id("msg"), Message(ChatRole.USER, self.input))]
        return [item_of(item) for item in self.input or ()]

    def tool_specs(self) -> tuple[ToolSpec, ...]:
        offered = tuple(tool.spec() for tool in self.tools or ())
        choice = self.tool_choice
        if not (isinstance(choice, ToolChoiceIn) and choice.type == "allowed_tools"):
            return offered
        allowed = [
            tool.get("name") for tool in choice.tools or () if tool.get("type") == "function"
        ]
        if len(allowed) < len(choice.tools or ()) or not set(allowed) <= {t.name for t in offered}:
            raise InvalidValue("Only functions among 'tools' can be allowed.", param="tool_choice")
        return tuple(tool for tool in offered if tool.name in allowed)

    def choice(self) -> ToolChoice | None:
        given = self.tool_choice
        if not isinstance(given, ToolChoiceIn):
            return given
        if given.type == "allowed_tools":
            return given.mode or "auto"
        if given.type != "function" or given.name is None:
            raise UnsupportedParameter(
                "tool_choice", "it names a function, or allows some of the functions in 'tools'."
            )
        return given.name

    def response_format(self) -> dict[str, object] | None:
        """As chat completions have it."""
        given = self.text and self.text.format
        if not given or given.type == "text":
            return None
        if given.type == "json_object":
            return {"type": "json_object"}
        fields = given.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
        return {"type": "json_schema", "json_schema": fields}


class CreateResponseRequest(ContextIn):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"model": "assistant", "input": "Hello! What can you do?"},
                {
                    "model": "assistant",
                    "instructions": "Answer in one sentence.",
                    "input": [{"role": "user", "content": "Where is my order?"}],
                    "stream": True,
                },
            ]
        },
    )

    model: str = Field(
        min_length=1,
        max_length=200,
        description="A published agent: `support`, `support@v7`, `support@draft`, or an agent id.",
    )
    stream: bool | None = None
    stream_options: StreamOptionsIn | None = None
    store: bool | None = Field(default=None, description="`true` unless said otherwise.")
    background: bool | None = Field(
        default=None, description="The run goes on without the caller; needs `store`."
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    max_output_tokens: int | None = Field(default=None, ge=16, le=10_000_000)
    include: list[Include] | None = Field(default=None, max_length=16)
    metadata: dict[str, Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    service_tier: ServiceTier | None = None
    max_tool_calls: int | None = None
    prompt: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    context_management: list[Any] | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    @field_validator("metadata")
    @classmethod
    def _short_keys(cls, metadata: dict[str, str] | None) -> dict[str, str] | None:
        if metadata and max(map(len, metadata)) > 64:
            raise ValueError("a key has at most 64 characters")
        return metadata

    def check_supported(self) -> None:
        super().check_supported()
        for name, why in _UNSUPPORTED.items():
            if getattr(self, name) is not None:
                raise UnsupportedParameter(name, why)
        if self.stream_options and not self.stream:
            raise UnsupportedParameter("stream_options", "it goes with 'stream': true.")
        if self.background and self.store is False:
            raise InvalidValue("A background response has to be stored.", param="background")
        if not self.input and self.previous_response_id is None and self.conversation is None:
            raise InvalidValue(
                "Give 'input', 'previous_response_id' or 'conversation'.", param="input"
            )

    def command(self, caller: Principal) -> CreateResponse:
        metadata = self.metadata or {}
        user = metadata.get("user_id")
        return CreateResponse(
            caller=caller.acting_for(UserId(user) if user else None),
            model=self.model,
            asked=self.asked(),
            options=self.options(),
            stream=bool(self.stream),
            store=self.store is not False,
            background=bool(self.background),
            metadata=metadata,
            settings=self.settings(),
        )

    def options(self) -> GenerationOptions:
        wants_logprobs = "message.output_text.logprobs" in (self.include or ())
        return GenerationOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            max_completion_tokens=self.max_output_tokens,
            logprobs=wants_logprobs or bool(self.top_logprobs) or None,
            top_logprobs=self.top_logprobs or None,
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            verbosity=self.text.verbosity if self.text else None,
            response_format=self.response_format(),
            user=self.user,
            safety_identifier=self.safety_identifier,
            prompt_cache_key=self.prompt_cache_key,
            tools=self.tool_specs(),
            tool_choice=self.choice(),
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def settings(self) -> dict[str, object]:
        """What the response says again of the request, with OpenAI's defaults."""
        choice, text = self.tool_choice, self.text
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {
                "effort": self.reasoning and self.reasoning.effort,
                "summary": self.reasoning and self.reasoning.summary,
            },
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.store is not False,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {
                "format": text.format.model_dump(by_alias=True, exclude_none=True)
                if text and text.format
                else {"type": "text"},
                "verbosity": (text and text.verbosity) or "medium",
            },
            "tool_choice": choice.model_dump(exclude_none=True)
            if isinstance(choice, ToolChoiceIn)
            else choice or "auto",
            "tools": [tool.echo() for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": self.truncation or "disabled",
            **({"user": self.user} if self.user else {}),
        }


class CountTokensRequest(ContextIn):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [{"model": "assistant", "input": "How long is this?"}]},
    )

    model: str | None = Field(
        default=None, min_length=1, max_length=200, description="Makes no difference."
    )

    def check_supported(self) -> None:
        super().check_supported()
        if self.conversation is not None:
            raise UnsupportedParameter("conversation", "give its items as 'input'.")


_UNSUPPORTED = {
    "max_tool_calls": "the agent's configuration bounds its rounds.",
    "prompt": "an agent's prompts are in its configuration.",
    "moderation": "put moderation into the agent.",
    "context_management": "use 'truncation', or a conversation.",
    "prompt_cache_retention": "the provider's cache keeps its own time.",
    "prompt_cache_options": "the provider's cache keeps its own rules.",
}
