"""Gateway `POST /api/agents/{id}/messages`: one turn of a conversation with an agent."""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.services.execution import Execution
from runtime.application.services.generation.sources import Sourced
from runtime.domain.errors import AgentNotFound, Draining, ModelNotFound
from runtime.domain.events.runs import (
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.domain.value_objects.items import MessageItem, items_of
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.disconnect import unless_disconnected
from runtime.infrastructure.web.gateway.envelope import GATEWAY_ERRORS, Envelope, errors_of
from runtime.infrastructure.web.openai.sessions import checked_name
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.sse import EventStream
from runtime.infrastructure.web.streaming.events import usage_object
from runtime.infrastructure.web.streaming.sse import SseEncoder

logger = logging.getLogger(__name__)
router = APIRouter(
    prefix="/api/agents", tags=["Gateway"], route_class=StrictRoute, responses=GATEWAY_ERRORS
)

_STREAM = (
    'data: {"type":"start","run_id":"run_…","agent_id":"agent_…","conversation_id":"conv_…"}\n'
    "id: 1\n\n"
    'data: {"type":"text-delta","content":"Hello!"}\nid: 2\n\n'
    'data: {"type":"finish","finish_reason":"stop","usage":{"total_tokens":12}}\nid: 3\n\n'
)


class MessageIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"message": "What is 5 + 3?"}]}
    )

    message: str = Field(min_length=1, max_length=1_000_000)
    conversation_id: str | None = Field(
        default=None,
        max_length=256,
        description="Of an earlier answer, or a name of your own; unset: a new conversation.",
    )
    stream: bool = Field(default=False, description="Answer in server-sent events.")


class ToolCallOut(BaseModel):
    tool_call_id: str
    tool_name: str
    arguments: str
    status: Literal["success", "error"] | None = None
    output: str | None = None


class UsageOut(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class MessageOut(BaseModel):
    agent_id: str
    conversation_id: str | None
    message_id: str | None = Field(description="Of the item in the conversation.")
    run_id: str
    role: Literal["assistant"] = "assistant"
    content: str
    response: str = Field(description="The same as `content`.")
    tool_calls: list[ToolCallOut] = Field(description="What the agent called on the way.")
    finish_reason: str
    usage: UsageOut
    duration_ms: float

    @classmethod
    def of(cls, execution: Execution, answer: Answer) -> "MessageOut":
        text = answer.text or answer.refusal or ""
        return cls(
            agent_id=execution.agent.id,
            conversation_id=execution.session_id,
            message_id=_said(execution, answer),
            run_id=execution.id,
            content=text,
            response=text,
            tool_calls=_calls(answer.events),
            finish_reason=answer.finish_reason,
            usage=UsageOut(**usage_object(answer.usage)),
            duration_ms=round(sum(record.duration_ms for record in execution.records), 1),
        )


@router.post(
    "/{id}/messages",
    response_model=None,
    responses={
        200: {
            "model": Envelope[MessageOut],
            "description": "The answer, or with `stream` its pieces as server-sent events.",
            "content": {"text/event-stream": {"example": _STREAM}},
        },
        **errors_of(408, 409, 413, 422, 429, 500, 502, 504),
    },
)
async def send_message(
    id: str,
    body: MessageIn,
    request: Request,
    caller: Caller,
    execute: Annotated[ExecuteAgentHandler, provided(lambda c: c.execute_agent())],
) -> Response | Envelope[MessageOut]:
    """Say something to an agent. Its answer names the conversation; send that to go on in it."""
    command = ExecuteAgent(
        caller=caller,
        model=id,
        messages=[Message(ChatRole.USER, body.message)],
        stream=body.stream,
        session=_session(body.conversation_id),
    )
    if body.stream:
        execution = await unless_disconnected(request, _opened(request, execute, command))
        return EventStream(_frames(execution), execution.cancel)
    return Envelope.around(await unless_disconnected(request, _whole(request, execute, command)))


def _session(named: str | None) -> SessionRef:
    """Raises InvalidValue."""
    if named is None:
        return SessionRef(name=f"new-{uuid7_hex()}", unnamed=True)
    return SessionRef(name=checked_name(named, "conversation_id"))


async def _started(
    request: Request, execute: ExecuteAgentHandler, command: ExecuteAgent
) -> Execution:
    try:
        execution = await execute(command)
    except ModelNotFound as error:
        raise AgentNotFound(command.model) from error
    request.state.run_id = execution.id
    return execution


async def _opened(
    request: Request, execute: ExecuteAgentHandler, command: ExecuteAgent
) -> Execution:
    execution = await _started(request, execute, command)
    try:
        await execution.ready()
    except BaseException:
        await execution.aclose()
        raise
    return execution


async def _whole(
    request: Request, execute: ExecuteAgentHandler, command: ExecuteAgent
) -> MessageOut:
    execution = await _started(request, execute, command)
    try:
        [answer] = await execution.answers()
    finally:
        await execution.aclose()
    return MessageOut.of(execution, answer)


async def _frames(execution: Execution) -> AsyncGenerator[bytes]:
    """The last one is `finish`, or `error` of a run that failed."""
    agent = execution.agent.id
    encoder = SseEncoder([agent])
    begun = {"agent_id": agent, "conversation_id": execution.session_id}
    try:
        yield encoder.frame({"type": "start", "run_id": execution.id, **begun})
        async for _, events in execution.batches():
            told = [Sourced(0, each) for each in events if not isinstance(each, RunStarted)]
            if told and (frames := encoder.encode(told)):
                yield frames
            match events[-1]:
                case RunFailed(error):
                    yield encoder.fail(error)
                case RunCancelled():
                    yield encoder.fail(Draining())
    # The headers are out: whatever goes wrong has to be said in the stream.
    except Exception as error:
        logger.exception("the stream of run %s broke", execution.id)
        yield encoder.fail(error)
    finally:
        await execution.aclose()


def _said(execution: Execution, answer: Answer) -> str | None:
    items = items_of(execution.id, answer.events)
    return next((each.id for each in reversed(items) if isinstance(each, MessageItem)), None)


def _calls(events: Sequence[RunEvent]) -> list[ToolCallOut]:
    calls: dict[str, ToolCallOut] = {}
    for event in events:
        if isinstance(event, ToolCalled):
            calls[event.call_id] = ToolCallOut(
                tool_call_id=event.call_id, tool_name=event.name, arguments=event.arguments
            )
        elif isinstance(event, ToolReturned) and (call := calls.get(event.call_id)):
            call.status, call.output = event.status, event.output
    return list(calls.values())
