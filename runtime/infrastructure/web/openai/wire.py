"""The request of `POST /v1/chat/completions`: `CreateChatCompletionRequest` of OpenAI's OpenAPI
description. Fields that are not OpenAI's are tolerated; wrong types name the field."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import ConfigDict, Field

from runtime.domain.errors import UnsupportedParameter
from runtime.domain.value_objects.chat import MAX_MESSAGES, GenerationOptions
from runtime.infrastructure.web.openai.wire_messages import MessageIn, Name, Wire, check_messages
from runtime.infrastructure.web.openai.wire_options import Metadata, ModelOptionsIn

MAX_CHOICES = 16

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]


class StreamOptionsIn(Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionRequest(ModelOptionsIn):
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
                {
                    "model": "assistant",
                    "messages": [{"role": "user", "content": "A ticket about a broken lamp."}],
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {
                            "name": "ticket",
                            "strict": True,
                            "schema": {
                                "type": "object",
                                "properties": {"subject": {"type": "string"}},
                                "required": ["subject"],
                                "additionalProperties": False,
                            },
                        },
                    },
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
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: Metadata | None = Field(
        default=None,
        description="`session_id` makes this a turn of that session; all is kept with the run.",
    )
    service_tier: ServiceTier | None = Field(
        default=None, description="There is one tier; the answer says `default`."
    )
    store: bool | None = Field(
        default=None, description="Keep the answer, to be read at `GET /v1/chat/completions/{id}`."
    )
    modalities: list[Name] | None = Field(default=None, max_length=8)
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    moderation: dict[str, Any] | None = None

    def check_supported(self) -> None:
        """Raises UnsupportedParameter, naming what would otherwise have no effect."""
        for name, why in _UNSUPPORTED.items():
            if getattr(self, name) is not None:
                raise UnsupportedParameter(name, why)
        if self.modalities and self.modalities != ["text"]:
            raise UnsupportedParameter("modalities", "agents answer in text.")
        if self.stream_options and not self.stream:
            raise UnsupportedParameter("stream_options", "it goes with 'stream': true.")
        if self.top_logprobs is not None and not self.logprobs:
            raise UnsupportedParameter("top_logprobs", "it goes with 'logprobs': true.")
        self.check_options()
        # A conversation that the runtime keeps may end with calls that are answered here.
        check_messages(self.messages, begun="session_id" in (self.metadata or ()))

    def options(self) -> GenerationOptions:
        options = super().options()
        if not self.logprobs:
            return options
        return replace(options, logprobs=True, top_logprobs=self.top_logprobs)


_UNSUPPORTED = {
    "moderation": "no moderation model is asked here.",
    "audio": "agents answer in text.",
    "prediction": "predicted outputs are not available for agents.",
    "web_search_options": "grant the agent a search tool instead.",
    "functions": "use 'tools'.",
    "function_call": "use 'tool_choice'.",
}
