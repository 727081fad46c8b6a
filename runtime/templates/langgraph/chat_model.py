"""The runtime's model service as a langchain chat model.

Tokens go straight from the service to the run that the call belongs to, not through langchain's
callbacks nor LangGraph's stream: a node just awaits `ainvoke`, and its text streams.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseCallbackManager,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from runtime.domain.errors import ExecutionFailed
from runtime.domain.events.runs import (
    AnnotationsAdded,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
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

_CUT: tuple[FinishReason, ...] = ("length", "content_filter")


class _Reply:
    """One model call as it comes in; what of it is for the caller goes on to the run at once."""

    def __init__(self, scope: RunScope | None, *, aloud: bool) -> None:
        self.id = f"msg_{uuid7_hex()}"
        self._scope = scope
        self._aloud = aloud and scope is not None
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._shown_as: dict[int, int] = {}
        """The caller's number of a call, by the model's."""
        self._usage: Usage | None = None
        self._finish_reason: FinishReason = "stop"
        self._model = ""
        if scope and self._aloud:
            scope.shown.add(self.id)

    async def take(self, event: ModelEvent) -> None:
        if type(event) is TextDelta:
            self._text.append(event.text)
            await self._say(event)
            return
        match event:
            case ReasoningDelta() | AnnotationsAdded():
                await self._say(event)
            case RefusalDelta():
                self._refusal.append(event.text)
                await self._say(event)
            case ToolCallDelta():
                self._calls[event.index] = extended(self._calls.get(event.index), event)
                await self._show_call(event)
            case UsageReported():
                self._usage = event.usage
                if self._scope:
                    await self._scope.emit(event)
            case ModelFinished():
                self._finish_reason = event.reason
                self._model = event.model
                if self._scope and self._aloud:
                    self._scope.finish_reason = event.reason

    def message(self) -> AIMessage:
        message = assistant_message("".join(self._text), self._whole_calls(), self.id)
        if self._refusal:
            message.additional_kwargs["refusal"] = "".join(self._refusal)
        if self._usage:
            message.usage_metadata = _usage_metadata(self._usage)
        message.response_metadata = {
            "finish_reason": self._finish_reason,
            "model_name": self._model,
        }
        return message

    def calls_in_a_piece(self) -> list[ToolCallChunk]:
        """For readers of chunks, which mend JSON that is cut: what is none becomes a JSON text,
        and so no call."""
        message = assistant_message("", self._whole_calls())
        good = [(call["id"], call["name"], json.dumps(call["args"])) for call in message.tool_calls]
        bad = [
            (call["id"], call["name"], json.dumps(call["args"]))
            for call in message.invalid_tool_calls
        ]
        return [
            tool_call_chunk(id=id, name=name, args=args, index=index)
            for index, (id, name, args) in enumerate(good + bad)
        ]

    def _whole_calls(self) -> list[ToolCall]:
        # A call that was cut off is no call: its arguments may even parse.
        if self._finish_reason in _CUT:
            return []
        return [self._calls[index] for index in sorted(self._calls)]

    async def _say(self, event: RunEvent) -> None:
        if self._scope and self._aloud:
            self._scope.spoke = True
            await self._scope.emit(event)

    async def _show_call(self, delta: ToolCallDelta) -> None:
        """Only calls to the caller's tools are shown, numbered without the agent's own."""
        if not (self._scope and self._aloud):
            return
        if delta.index not in self._shown_as:
            if delta.name not in {tool.name for tool in self._scope.input.options.tools}:
                return
            self._shown_as[delta.index] = self._scope.caller_calls
            self._scope.caller_calls += 1
        await self._say(replace(delta, index=self._shown_as[delta.index]))


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

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> AIMessage:
        """Where nobody listens to langchain's callbacks, which is the rule, without them."""
        merged = ensure_config(config)
        manager = merged.get("callbacks")
        if _is_heard(manager):
            return await super().ainvoke(input, config, stop=stop, **kwargs)
        messages = self._convert_input(input).to_messages()
        inherited = manager.inheritable_tags if isinstance(manager, BaseCallbackManager) else ()
        tags = (*merged.get("tags", ()), *inherited, *(self.tags or ()))
        return await self._answer(messages, stop, kwargs, aloud=NOSTREAM not in tags)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> ChatResult:
        message = await self._answer(messages, stop, kwargs, aloud=_is_aloud(run_manager))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in langchain
    ) -> AsyncIterator[ChatGenerationChunk]:
        aloud = _is_aloud(run_manager)
        reply = _Reply(CURRENT.get(), aloud=aloud)
        async with aclosing(self._call(messages, stop, kwargs, aloud=aloud)) as events:
            async for event in events:
                await reply.take(event)
                chunk = _chunk(reply, event)
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
        answer = self._answer(messages, stop, kwargs, aloud=_is_aloud(run_manager))
        message = asyncio.run_coroutine_threadsafe(answer, scope.loop).result()
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _answer(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        bound: dict[str, Any],
        *,
        aloud: bool,
    ) -> AIMessage:
        reply = _Reply(CURRENT.get(), aloud=aloud)
        async with aclosing(self._call(messages, stop, bound, aloud=aloud)) as events:
            async for event in events:
                await reply.take(event)
        return reply.message()

    def _call(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        bound: dict[str, Any],
        *,
        aloud: bool,
    ) -> AsyncGenerator[ModelEvent]:
        scope = CURRENT.get()
        options = self._options(scope, aloud, stop, bound)
        stream = scope is None or (scope.input.stream and aloud)
        call = ModelCall(self.name_of_model, from_langchain(messages), options, stream=stream)
        service: ModelService = self.service
        return service.stream(call)

    def _options(
        self,
        scope: RunScope | None,
        aloud: bool,
        stop: list[str] | None,
        bound: dict[str, Any],
    ) -> GenerationOptions:
        asked = scope.input.options if scope else GenerationOptions()
        fixed = self.fixed
        if not aloud:
            asked = asked.for_inner_call()
            fixed = replace(fixed, response_format=None) if fixed.response_format else fixed
        elif scope and scope.called_own_tools and asked.tool_choice not in (None, "none"):
            # A forced call was honoured in the first round; forced again it would never end.
            asked = replace(asked, tool_choice=None)
        options = asked.over(fixed)
        names = GenerationOptions.__dataclass_fields__
        own = {name: value for name, value in bound.items() if name in names and value is not None}
        if "tools" in own:
            own["tools"] = (*own["tools"], *options.tools)
        if stop:
            own["stop"] = tuple(stop)
        return replace(options, **own) if own else options


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


def _is_heard(callbacks: Callbacks) -> bool:
    """Whether somebody listens. Outside of a run and of a graph langchain has yet to find out."""
    if isinstance(callbacks, BaseCallbackManager):
        return bool(callbacks.handlers)
    return bool(callbacks) or CURRENT.get() is None


def _is_aloud(run_manager: BaseRunManager | None) -> bool:
    return run_manager is None or NOSTREAM not in run_manager.tags


def _in_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _chunk(reply: _Reply, event: ModelEvent) -> ChatGenerationChunk | None:
    """Calls come with the end, when it is known whether they are whole."""
    match event:
        case TextDelta():
            message = AIMessageChunk(content=event.text, id=reply.id)
        case UsageReported():
            usage = _usage_metadata(event.usage)
            message = AIMessageChunk(content="", id=reply.id, usage_metadata=usage)
        case ModelFinished():
            message = AIMessageChunk(
                content="",
                id=reply.id,
                tool_call_chunks=reply.calls_in_a_piece(),
                response_metadata={"finish_reason": event.reason, "model_name": event.model},
            )
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
