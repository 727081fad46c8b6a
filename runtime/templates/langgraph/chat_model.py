"""The runtime's model service as a langchain chat model.

Tokens go straight from the service to the run that the call belongs to, not through langchain's
callbacks nor LangGraph's stream: a node just awaits `ainvoke`, and its text streams.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from runtime.domain.errors import ExecutionFailed
from runtime.domain.events.runs import (
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished, ModelService
from runtime.domain.value_objects.answers import extended
from runtime.domain.value_objects.chat import (
    FinishReason,
    GenerationOptions,
    ToolCall,
    ToolSpec,
    Usage,
)
from runtime.domain.value_objects.ids import uuid7_hex
from runtime.templates.langgraph.messages import assistant_message, from_langchain
from runtime.templates.scope import CURRENT, RunScope

NOSTREAM = "nostream"
"""LangGraph's tag for a model call whose text is not for the caller."""


@dataclass(slots=True)
class _Reply:
    """One model call as it comes in."""

    id: str
    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, ToolCall] = field(default_factory=dict)
    usage: Usage | None = None
    finish_reason: FinishReason = "stop"
    model: str = ""

    def take(self, event: ModelEvent) -> None:
        match event:
            case TextDelta():
                self.text.append(event.text)
            case RefusalDelta():
                self.refusal.append(event.text)
            case ToolCallDelta():
                self.calls[event.index] = extended(self.calls.get(event.index), event)
            case UsageReported():
                self.usage = event.usage
            case ModelFinished():
                self.finish_reason = event.reason
                self.model = event.model
            case ReasoningDelta():
                pass

    def message(self) -> AIMessage:
        # A call that was cut off by the token limit is no call: its arguments may even parse.
        complete = self.finish_reason != "length"
        calls = [self.calls[index] for index in sorted(self.calls)] if complete else []
        message = assistant_message("".join(self.text), calls, self.id)
        if self.refusal:
            message.additional_kwargs["refusal"] = "".join(self.refusal)
        if self.usage:
            message.usage_metadata = _usage_metadata(self.usage)
        message.response_metadata = {
            "finish_reason": self.finish_reason,
            "model_name": self.model,
        }
        return message


class _Reporter:
    """Passes a call's events on to the run, as far as they are for the caller."""

    def __init__(self, scope: RunScope, *, aloud: bool) -> None:
        self._scope = scope
        self._aloud = aloud
        self._own = {tool.name for tool in scope.input.options.tools}
        self._indices: dict[int, int] = {}

    async def report(self, event: ModelEvent) -> None:
        if isinstance(event, UsageReported):
            await self._scope.emit(event)
        elif not self._aloud or isinstance(event, ModelFinished):
            return
        elif isinstance(event, ToolCallDelta):
            await self._report_call(event)
        else:
            self._scope.spoke = True
            await self._scope.emit(event)

    async def _report_call(self, delta: ToolCallDelta) -> None:
        """Only calls to the caller's tools are shown, numbered without the agent's own."""
        if delta.index not in self._indices:
            if delta.name not in self._own:
                return
            self._indices[delta.index] = self._scope.caller_calls
            self._scope.caller_calls += 1
        self._scope.spoke = True
        await self._scope.emit(replace(delta, index=self._indices[delta.index]))


class RuntimeChatModel(BaseChatModel):
    """The agent's model. Inside a run its text streams to the caller, unless tagged `nostream`.

    Call options: what the code binds wins over what the agent's configuration fixes, and that
    over what the caller asked for. Outside of a run it just answers.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    service: Any
    """A ModelService; pydantic can't check a protocol."""
    name_of_model: str | None = None
    fixed: GenerationOptions = GenerationOptions()

    @property
    def _llm_type(self) -> str:
        return "agent-runtime"

    @property
    def quiet(self) -> "Runnable[LanguageModelInput, AIMessage]":
        """The same model for calls whose text is not the answer."""
        return self.with_config(tags=[NOSTREAM])

    def _should_stream(
        self,
        *,
        async_api: bool,
        run_manager: object = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> bool:
        """For `astream` only. A listener such as LangGraph's `messages` mode would else turn every
        awaited call into a stream that does not know its own tags, and quiet calls into loud ones.
        """
        return async_api and bool(kwargs.get("stream"))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool | ToolSpec],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> Runnable[LanguageModelInput, AIMessage]:
        specs = tuple(_tool_spec(tool) for tool in tools)
        choice = "required" if tool_choice == "any" else tool_choice
        return self.bind(tools=specs, tool_choice=choice, **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> ChatResult:
        reply = _Reply(f"msg_{uuid7_hex()}")
        async for _ in self._events(reply, messages, stop, run_manager, kwargs):
            pass
        return ChatResult(generations=[ChatGeneration(message=reply.message())])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = _Reply(f"msg_{uuid7_hex()}")
        async for event in self._events(reply, messages, stop, run_manager, kwargs):
            chunk = _chunk(reply.id, event)
            if chunk is None:
                continue
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> ChatResult:
        """For synchronous nodes, which LangGraph runs in a thread beside the loop."""
        scope = CURRENT.get()
        if scope is None or _in_loop(scope.loop):
            raise ExecutionFailed(
                "Call the model with `await model.ainvoke(...)`; `invoke` only works in a "
                "synchronous node."
            )
        tags = run_manager.tags if run_manager else []
        aloud = NOSTREAM not in tags
        answer = self._agenerate(messages, stop, None, aloud=aloud, **kwargs)
        return asyncio.run_coroutine_threadsafe(answer, scope.loop).result()

    async def _events(
        self,
        reply: _Reply,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        run_manager: AsyncCallbackManagerForLLMRun | None,
        bound: dict[str, Any],
    ) -> AsyncIterator[ModelEvent]:
        scope = CURRENT.get()
        aloud = bound.pop("aloud", not (run_manager and NOSTREAM in run_manager.tags))
        options = self._options(scope, aloud, stop, bound)
        stream = scope is None or (scope.input.stream and aloud)
        call = ModelCall(self.name_of_model, from_langchain(messages), options, stream=stream)
        if scope and aloud:
            scope.shown.add(reply.id)
        reporter = _Reporter(scope, aloud=aloud) if scope else None
        service: ModelService = self.service
        async with aclosing(service.stream(call)) as events:
            async for event in events:
                reply.take(event)
                if reporter:
                    await reporter.report(event)
                yield event
        if scope and aloud:
            scope.finish_reason = reply.finish_reason

    def _options(
        self,
        scope: RunScope | None,
        aloud: bool,
        stop: list[str] | None,
        bound: dict[str, Any],
    ) -> GenerationOptions:
        asked = scope.input.options if scope else GenerationOptions()
        if not aloud:
            asked = asked.for_inner_call()
        elif scope and scope.called_own_tools and asked.tool_choice not in (None, "none"):
            # A forced call was honoured in the first round; forced again it would never end.
            asked = replace(asked, tool_choice=None)
        options = asked.over(self.fixed)
        tools = (*bound.pop("tools", ()), *options.tools)
        names = GenerationOptions.__dataclass_fields__
        own = {name: value for name, value in bound.items() if name in names and value is not None}
        if stop:
            own["stop"] = tuple(stop)
        return replace(options, **own, tools=tools)


def _tool_spec(tool: dict[str, Any] | type | Callable[..., Any] | BaseTool | ToolSpec) -> ToolSpec:
    if isinstance(tool, ToolSpec):
        return tool
    function = convert_to_openai_tool(tool)["function"]
    return ToolSpec(
        function["name"],
        function.get("description", ""),
        function.get("parameters", {}),
        function.get("strict"),
    )


def _in_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _chunk(id: str, event: ModelEvent) -> ChatGenerationChunk | None:
    match event:
        case TextDelta():
            message = AIMessageChunk(content=event.text, id=id)
        case ToolCallDelta():
            piece = tool_call_chunk(
                name=event.name or None,
                args=event.arguments,
                id=event.call_id or None,
                index=event.index,
            )
            message = AIMessageChunk(content="", id=id, tool_call_chunks=[piece])
        case UsageReported():
            message = AIMessageChunk(content="", id=id, usage_metadata=_usage_metadata(event.usage))
        case ModelFinished():
            metadata = {"finish_reason": event.reason, "model_name": event.model}
            message = AIMessageChunk(content="", id=id, response_metadata=metadata)
        case _:
            return None
    return ChatGenerationChunk(message=message)


def _usage_metadata(usage: Usage) -> UsageMetadata:
    return cast(
        UsageMetadata,
        {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "input_token_details": {"cache_read": usage.cached_tokens},
            "output_token_details": {"reasoning": usage.reasoning_tokens},
        },
    )
