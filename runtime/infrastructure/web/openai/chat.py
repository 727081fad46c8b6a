"""OpenAI `POST /v1/chat/completions`: the `model` is an agent."""

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.services.execution import Execution
from runtime.domain.entities.runs import Run
from runtime.domain.errors import Draining
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
    ToolCallDelta,
)
from runtime.domain.value_objects.chat import NO_USAGE
from runtime.domain.value_objects.completions import checked_labels
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import completion_id
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.disconnect import unless_disconnected
from runtime.infrastructure.web.errors import understand
from runtime.infrastructure.web.json_response import JsonResponse
from runtime.infrastructure.web.openai.chat_objects import choice_object, head, usage_object
from runtime.infrastructure.web.openai.examples import CHAT_RESPONSES
from runtime.infrastructure.web.openai.sessions import session_headers, session_of, user_of
from runtime.infrastructure.web.openai.wire import ChatCompletionRequest
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.sse import EventStream

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/chat", tags=["OpenAI"], route_class=StrictRoute)

HEADERS_WITHIN_S = 15.0
"""A stream that says nothing for this long gets its headers all the same: proxies give up soon."""


@router.post("/completions", response_model=None, responses=CHAT_RESPONSES)
async def create_chat_completion(
    body: ChatCompletionRequest,
    request: Request,
    caller: Caller,
    execute: Annotated[ExecuteAgentHandler, provided(lambda c: c.execute_agent())],
) -> Response:
    """Ask an agent. With `stream`, the answer comes as server-sent events."""
    body.check_supported()
    command = _command(body, caller, request)
    details = _wants_details(request, command)
    if body.stream:
        execution = await unless_disconnected(request, _opened(request, execute, command))
        usage = bool(body.stream_options and body.stream_options.include_usage)
        frames = _Frames(execution, body.model, with_usage=usage, with_details=details)
        headers = session_headers(command.session, execution)
        return EventStream(frames.stream(), execution.cancel, headers)
    answer, headers = await unless_disconnected(
        request, _whole(request, execute, command, with_details=details)
    )
    return JsonResponse(answer, headers=headers)


def _command(body: ChatCompletionRequest, caller: Principal, request: Request) -> ExecuteAgent:
    metadata = body.metadata or {}
    return ExecuteAgent(
        caller=caller.acting_for(user_of(metadata)),
        model=body.model,
        messages=[message.message() for message in body.messages],
        options=body.options(),
        choices=body.n or 1,
        stream=bool(body.stream),
        session=session_of(request, metadata),
        metadata=metadata,
        labels=checked_labels(metadata) if body.store else None,
    )


def _wants_details(request: Request, command: ExecuteAgent) -> bool:
    """Whether the answer gets the platform's `metadata` object.

    OpenAI has another meaning for that field, so OpenAI clients, who always carry a bearer, get
    it only when they send the platform's own keys.
    """
    bearer = request.headers.get("authorization", "").lower().startswith("bearer ")
    return not bearer or not command.metadata.keys().isdisjoint(("session_id", "user_id"))


async def _opened(
    request: Request, execute: ExecuteAgentHandler, command: ExecuteAgent
) -> Execution:
    """With its first output there, so that a refusal still gets its HTTP status."""
    execution = await execute(command)
    request.state.run_id = execution.id
    try:
        await execution.ready(HEADERS_WITHIN_S)
    except BaseException:
        await execution.aclose()
        raise
    return execution


async def _whole(
    request: Request, execute: ExecuteAgentHandler, command: ExecuteAgent, *, with_details: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """The answer and its headers."""
    execution = await execute(command)
    request.state.run_id = execution.id
    try:
        answers = await execution.answers()
    finally:
        await execution.aclose()
    details = {"metadata": _metadata(execution)} if with_details else {}
    body = {
        **_head(execution, command.model, "chat.completion"),
        "choices": [choice_object(index, answer) for index, answer in enumerate(answers)],
        "usage": usage_object(sum((answer.usage for answer in answers), NO_USAGE)),
        **details,
    }
    return body, session_headers(command.session, execution)


def _head(execution: Execution, model: str, kind: str) -> dict[str, Any]:
    return head(completion_id(execution.id), model, execution.agent.spec.fingerprint, kind)


def _metadata(execution: Execution) -> dict[str, Any]:
    """The platform's `metadata` object (specs: platform API, chat completions)."""
    agent, records = execution.agent, execution.records
    return {
        "agent_id": agent.id,
        "agent_type": agent.spec.agent_type,
        "agent_version": agent.version,
        "run_id": execution.id,
        "processing_time_ms": round(max((r.duration_ms for r in records), default=0.0), 1),
        "execution_steps": [step for record in records for step in _steps(record)],
        "tools_used": list(dict.fromkeys(t.name for record in records for t in record.tools)),
    }


def _steps(record: Run) -> list[dict[str, Any]]:
    return [
        {
            "name": step.name,
            "status": step.status,
            "duration_ms": round(step.duration_ms, 1),
            "attempts": step.attempts,
        }
        for step in record.steps
    ]


class _Frames:
    """A run's events as `chat.completion.chunk` frames.

    Text, which is nearly all of a stream, is put between two halves of a frame made beforehand.
    """

    def __init__(
        self, execution: Execution, model: str, *, with_usage: bool, with_details: bool
    ) -> None:
        self._execution = execution
        self._with_usage = with_usage
        self._with_details = with_details
        self._head = _head(execution, model, "chat.completion.chunk")
        if with_usage:
            self._head["usage"] = None
        self._usage = NO_USAGE
        self._begun: set[int] = set()
        self._halves: dict[int, tuple[bytes, bytes]] = {}

    async def stream(self) -> AsyncGenerator[bytes]:
        """A run that fails ends the stream with its error, and without `[DONE]`."""
        try:
            async for index, events in self._execution.batches():
                frames = bytearray()
                for event in events:
                    frames += self._encode(index, event)
                if frames:
                    yield bytes(frames)
                if isinstance(events[-1], RunFailed | RunCancelled):
                    return
            yield self._end()
        # The headers are out: whatever goes wrong has to be said in the stream.
        except Exception as error:
            logger.exception("the stream of run %s broke", self._execution.id)
            yield _frame({"error": understand(error).openai()})
        finally:
            await self._execution.aclose()

    def _encode(self, index: int, event: RunEvent) -> bytes:
        if type(event) is TextDelta and event.logprobs is None and index in self._begun:
            before, after = self._halves[index]
            return before + orjson.dumps(event.text) + after
        match event:
            case TextDelta():
                return self._delta(index, {"content": event.text}, logprobs=event.logprobs)
            case ReasoningDelta():
                return self._delta(index, {"reasoning_content": event.text})
            case RefusalDelta():
                return self._delta(index, {"refusal": event.text}, logprobs=event.logprobs)
            case AnnotationsAdded():
                return self._delta(index, {"annotations": event.annotations})
            case ToolCallDelta():
                return self._delta(index, {"tool_calls": [_tool_delta(event)]})
            case RunCompleted():
                self._usage += event.usage
                return self._delta(index, {}, finish=event.finish_reason)
            case RunFailed():
                return _frame({"error": understand(event.error).openai()})
            case RunCancelled():
                return _frame({"error": understand(Draining()).openai()})
        return b""

    def _delta(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: Mapping[str, object] | None = None,
        finish: str | None = None,
    ) -> bytes:
        frames = b"" if index in self._begun else self._begin(index, delta)
        likely = logprobs and {name: logprobs.get(name) for name in ("content", "refusal")}
        choice = {"index": index, "delta": delta, "logprobs": likely, "finish_reason": finish}
        details = {}
        if finish and self._with_details:
            details["metadata"] = _metadata(self._execution)
        return frames + _frame({**self._head, "choices": [choice], **details})

    def _begin(self, index: int, first: Mapping[str, Any]) -> bytes:
        self._begun.add(index)
        mark = "\x00"
        choice = {
            "index": index,
            "delta": {"content": mark},
            "logprobs": None,
            "finish_reason": None,
        }
        before, after = _frame({**self._head, "choices": [choice]}).split(orjson.dumps(mark))
        self._halves[index] = (before, after)
        wordless = "tool_calls" in first or "refusal" in first
        delta = {"role": "assistant", "content": None if wordless else "", "refusal": None}
        return _frame({**self._head, "choices": [{**choice, "delta": delta}]})

    def _end(self) -> bytes:
        done = b"data: [DONE]\n\n"
        if not self._with_usage:
            return done
        return _frame({**self._head, "choices": [], "usage": usage_object(self._usage)}) + done


def _tool_delta(event: ToolCallDelta) -> dict[str, Any]:
    function: dict[str, str] = {"arguments": event.arguments}
    if not event.call_id:
        return {"index": event.index, "function": function}
    return {
        "index": event.index,
        "id": event.call_id,
        "type": "function",
        "function": {"name": event.name, **function},
    }


def _frame(payload: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"
