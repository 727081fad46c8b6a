"""The bodies of `POST /api/streaming/chat` and `/compare`, and their answers in one piece."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue

from runtime.application.commands.runs import SessionRef
from runtime.application.commands.streaming import StreamChat
from runtime.application.services.generation.generation import Generation, SourceAnswer
from runtime.application.services.generation.modes import MAX_SOURCES
from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import MAX_MESSAGES, ChatRole, Message, ToolCall
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.openai.sessions import user_of
from runtime.infrastructure.web.openai.wire_messages import MessageIn, check_messages
from runtime.infrastructure.web.openai.wire_options import Metadata, ModelOptionsIn, at_most
from runtime.infrastructure.web.streaming.events import usage_object

MAX_NAME = 200
MAX_CONFIG_BYTES = 16_000

Named = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Config = Annotated[dict[str, Any], at_most(MAX_CONFIG_BYTES)]
_HELLO: list[JsonValue] = [{"role": "user", "content": "Hello! What can you do?"}]


class AskedIn(ModelOptionsIn):
    messages: list[MessageIn] | None = Field(
        default=None, min_length=1, max_length=MAX_MESSAGES, description="In OpenAI's shape."
    )
    message: str | None = Field(
        default=None, min_length=1, description="Instead of `messages`: what the user says."
    )
    metadata: Metadata | None = Field(default=None, description="Kept with the run.")
    n: Annotated[int, Field(ge=1, le=1)] | None = Field(
        default=None, description="One answer of each; for several, ask several providers."
    )

    def asked(self, *, begun: bool = False) -> list[Message]:
        """Raises InvalidValue, also where both or neither are given."""
        if (self.messages is None) == (self.message is None):
            raise InvalidValue("Send either 'messages' or 'message'.", param="messages")
        if self.messages is None:
            return [Message(ChatRole.USER, self.message or "")]
        check_messages(self.messages, begun=begun)
        return [message.message() for message in self.messages]


class ChatIn(AskedIn):
    """Who is asked what, and how the answer is to come: the same at every streaming door."""

    agent_id: Named | None = Field(
        default=None, description="Whom to ask: an agent's id or name, as `model` elsewhere."
    )
    provider_id: Named | None = Field(
        default=None, description="Or a model without an agent: its provider."
    )
    model: Named | None = Field(
        default=None, description="The provider's name of it, or `provider/name`."
    )
    providers: list[Named] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SOURCES,
        description="For the modes of several: each a provider's id or `provider/name`.",
    )
    generator_mode: str = Field(
        default="standard",
        max_length=64,
        description="`standard`, `buffered`, `chunked`, `interleaved`, `priority`, or one that "
        "is installed.",
    )
    generator_config: Config | None = Field(default=None, description="Of the mode.")
    session_id: str | None = Field(
        default=None, description="With an agent: the conversation that this is a turn of."
    )
    conversation_id: str | None = Field(default=None, description="The same, by its id.")

    def sessions(self) -> Mapping[str, str | None]:
        """The conversation, as its fields name it."""
        return {"session_id": self.session_id, "conversation_id": self.conversation_id}

    def command(
        self,
        caller: Principal,
        session: SessionRef | None,
        *,
        stream: bool = True,
        tells_apart: bool = True,
    ) -> StreamChat:
        """Raises UnsupportedParameter, InvalidValue."""
        self.check_options()
        metadata = self.metadata or {}
        return StreamChat(
            caller=caller.acting_for(user_of(metadata)),
            messages=self.asked(begun=session is not None),
            agent=self.agent_id,
            models=self.models(),
            options=self.options(),
            session=session,
            mode=self.generator_mode,
            config=self.generator_config or {},
            metadata=metadata,
            stream=stream,
            tells_apart=tells_apart,
        )

    def models(self) -> Sequence[str]:
        """Raises InvalidValue where it is not clear who is asked."""
        given = [
            name
            for name in ("agent_id", "provider_id", "model", "providers")
            if getattr(self, name) is not None
        ]
        if len(given) > 1 and given != ["provider_id", "model"]:
            raise InvalidValue(
                f"'{given[0]}' and '{given[1]}' both say who is asked; send one.", param=given[1]
            )
        if self.providers is not None:
            return self.providers
        parts = [part for part in (self.provider_id, self.model) if part is not None]
        return ["/".join(parts)] if parts else []


class StreamingChatRequest(ChatIn):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"messages": _HELLO, "stream_format": "sse", "provider_id": "demo"},
                {"messages": _HELLO, "agent_id": "assistant", "stream_format": "ai-sdk"},
                {
                    "message": "Hello! What can you do?",
                    "provider_id": "demo",
                    "generator_mode": "buffered",
                    "generator_config": {"buffer_size": 512, "flush_interval": 0.2},
                },
                {"message": "Hello!", "provider_id": "demo", "stream": False},
            ]
        },
    )

    stream: bool = True
    stream_format: str = Field(
        default="sse", max_length=64, description="`sse`, `text`, `jsonl`, `ai-sdk` or `proxy`."
    )


class CompareRequest(AskedIn):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"messages": _HELLO, "providers": ["demo", "demo/other"]}],
        },
    )

    providers: list[Named] = Field(
        min_length=2,
        max_length=MAX_SOURCES,
        description="Each a provider's id or `provider/name`.",
    )


def whole(generation: Generation, answers: Sequence[SourceAnswer]) -> dict[str, Any]:
    """The answer to a chat that is not streamed: of several, the one that was chosen or all."""
    shown = [answer_object(each) for each in answers]
    return {"answers": shown} if generation.mixes else shown[0]


def answer_object(answered: SourceAnswer) -> dict[str, Any]:
    source, record = answered.source, answered.record
    return {
        "source": source.name,
        "run_id": source.execution.id if source.execution else None,
        **(_said(answered.answer) if answered.answer else _UNSAID),
        "latency_ms": round(record.duration_ms, 1) if record else None,
        "first_token_ms": _rounded(record.first_token_ms) if record else None,
        "usage": usage_object(record.usage) if record else None,
        "cost": float(record.cost) if record and record.cost is not None else None,
        "models": list(record.models) if record else [],
        "error": _error(answered.error) if answered.error else None,
    }


def envelope(request_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What answers have on the gateway's routes, errors too."""
    return {"request_id": request_id, "success": True, "error": None, "data": data}


_UNSAID: Mapping[str, Any] = {
    "content": None,
    "reasoning": None,
    "refusal": None,
    "tool_calls": [],
    "finish_reason": None,
}


def _said(answer: Answer) -> dict[str, Any]:
    return {
        "content": answer.text,
        "reasoning": answer.reasoning or None,
        "refusal": answer.refusal,
        "tool_calls": [_call(call) for call in answer.tool_calls],
        "finish_reason": answer.finish_reason,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"tool_call_id": call.id, "tool_name": call.name, "arguments": call.arguments}


def _error(error: BaseException) -> dict[str, Any]:
    refusal = understand(error)
    return {"code": refusal.code, "message": refusal.message, "status": refusal.status}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
