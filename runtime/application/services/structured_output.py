"""Answers in the JSON that `response_format` asks for, whatever the agent is made of.

A model that keeps to the format by itself streams as ever and is only checked at the end. Where it
does not, or nobody reads along, the text is held back, freed from what stands around the JSON,
checked, and repaired once by a call to the agent's model: its tools are not called again.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import ExecutionFailed, InvalidJsonSchema, InvalidStructuredOutput
from runtime.domain.events.runs import (
    RefusalDelta,
    RunCompleted,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
)
from runtime.domain.services.executor import AgentInstance, Emit, RunInput
from runtime.domain.services.models import ModelCall, ModelFinished, ModelService, ModelServices
from runtime.domain.services.schemas import AnswerSchema, SchemaCompiler
from runtime.domain.value_objects.chat import (
    ChatRole,
    FinishReason,
    GenerationOptions,
    Message,
)

_FENCED = re.compile(r"^```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.MULTILINE)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_OPENING_LINE = re.compile(r"^[{\[]", re.MULTILINE)
_MOST_OPENINGS = 50


@dataclass(frozen=True)
class StructuredOutput:
    models: ModelServices
    schemas: SchemaCompiler

    def asked(
        self, agent: Agent, instance: AgentInstance, options: GenerationOptions
    ) -> "ShapedRun | None":
        """How to run `instance` for the format that is asked for, or that its configuration
        fixes; None without one. Raises InvalidJsonSchema, ExecutionFailed."""
        fixed = instance.fixed_options.response_format
        form = fixed or options.response_format
        if form is None or form.get("type") not in ("json_object", "json_schema"):
            return None
        try:
            schema = self._schema(form)
        except InvalidJsonSchema as error:
            if fixed is None:
                raise
            raise ExecutionFailed(f"The agent's own response_format is wrong: {error}") from error
        models = self.models.of(agent.project_id)
        return ShapedRun(models, agent.spec.model, instance, form, schema)

    def _schema(self, form: Mapping[str, Any]) -> AnswerSchema:
        if form["type"] == "json_object":
            return _AnyObject()
        asked = form["json_schema"]
        return self.schemas.compile(
            asked.get("schema") or {}, asked["name"], strict=asked.get("strict") is True
        )


@dataclass(frozen=True)
class ShapedRun:
    models: ModelService
    model: str | None
    instance: AgentInstance
    form: Mapping[str, object]
    schema: AnswerSchema

    async def run(self, input: RunInput, emit: Emit) -> None:
        """As AgentInstance.run. Raises InvalidStructuredOutput for what was already streamed."""
        held = not (input.stream and self.instance.obeys(self.form))
        answer = _Draft(emit, held=held)
        await self.instance.run(input, answer.take)
        if not answer.is_final:
            await answer.release()
        elif answer.text and not held:
            if problems := self._judged(answer.text)[1]:
                raise InvalidStructuredOutput(problems[0])
        else:
            await self._finish(input, answer, emit)
        await emit(RunCompleted(answer.finish_reason))

    async def _finish(self, input: RunInput, answer: "_Draft", emit: Emit) -> None:
        found, problems = self._judged(answer.text)
        if not problems:
            await answer.release(found)
            return
        repaired = _Draft(emit, held=True)
        async with aclosing(
            self.models.stream(self._repair(input, answer.text, problems))
        ) as events:
            async for event in events:
                if isinstance(event, ModelFinished):
                    repaired.finish_reason = event.reason
                else:
                    await repaired.take(event)
        answer.finish_reason = repaired.finish_reason
        if not repaired.is_final:
            await repaired.release()
            return
        found, problems = self._judged(repaired.text)
        if problems:
            text = f"The answer did not come out in the requested JSON: {problems[0]}"
            await emit(RefusalDelta(text))
        else:
            await repaired.release(found)

    def _judged(self, text: str) -> tuple[str, Sequence[str]]:
        """The JSON in `text` that fits, with no problem; else what is wrong with what is there."""
        problems: Sequence[str] = ()
        fitting = None
        for candidate, value in _candidates(text):
            wrong = self.schema.problems(value)
            if not wrong:
                # Where there are several, the later ones correct the earlier.
                fitting = candidate
            problems = problems or wrong
        if fitting is not None:
            return fitting, ()
        return "", problems or ["$: it is not valid JSON."]

    def _repair(self, input: RunInput, text: str, problems: Sequence[str]) -> ModelCall:
        options = input.options.over(self.instance.fixed_options)
        options = replace(
            options.for_inner_call(),
            max_tokens=options.max_tokens,
            max_completion_tokens=options.max_completion_tokens,
            response_format=self.form,
        )
        wrote = [Message(ChatRole.ASSISTANT, text)] if text else []
        request = "\n".join(
            [
                "Your answer can't be used: it is not the JSON that was asked for.",
                *(f"- {problem}" for problem in problems),
                "Write the whole answer again, as valid JSON and nothing else.",
            ]
        )
        messages = [*input.messages, *wrote, Message(ChatRole.USER, request)]
        return ModelCall(self.model, messages, options, stream=False)


class _Draft:
    """An answer on its way: text goes through, or is held until it is known to be good."""

    def __init__(self, emit: Emit, *, held: bool) -> None:
        self._emit = emit
        self._held = held
        self._deltas: list[TextDelta] = []
        self._other_output = False
        self.finish_reason: FinishReason = "stop"

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self._deltas)

    @property
    def is_final(self) -> bool:
        """Not one that was cut, refused or left to the caller's tools: these pass as they are."""
        return self.finish_reason == "stop" and not self._other_output

    async def take(self, event: RunEvent) -> None:
        if type(event) is TextDelta:
            self._deltas.append(event)
            if self._held:
                return
        elif isinstance(event, RunCompleted):
            self.finish_reason = event.finish_reason
            return
        elif isinstance(event, RefusalDelta | ToolCallDelta):
            self._other_output = True
        elif isinstance(event, ToolCalled) and self._held:
            # What a model says before it calls a tool is no part of the answer.
            self._deltas.clear()
        await self._emit(event)

    async def release(self, text: str | None = None) -> None:
        """Send what is held, or `text` of it."""
        if not self._held:
            return
        as_they_came = text is None or text == self.text
        for delta in self._deltas if as_they_came else [TextDelta(text or "")]:
            await self._emit(delta)


class _AnyObject(AnswerSchema):
    def problems(self, value: object) -> Sequence[str]:
        return () if isinstance(value, dict) else ["$: it is not a JSON object."]


def _candidates(text: str) -> Iterator[tuple[str, object]]:
    """What may be the JSON meant: the text, else what is fenced, else what is begun in it.

    Never a piece of a larger value that is broken.
    """
    whole = _parsed(text)
    if whole is not _NOTHING:
        yield text, whole
        return
    text = _THOUGHT.sub("", text)
    fenced = [each for each in _FENCED.findall(text) if _parsed(each) is not _NOTHING]
    if fenced:
        yield from ((each, _parsed(each)) for each in fenced)
        return
    opening = _OPENING.search(text)
    for _ in range(_MOST_OPENINGS):
        if opening is None:
            return
        end = opening.end()
        try:
            value, end = _DECODER.raw_decode(text, opening.start())
            yield text[opening.start() : end], value
            opening = _OPENING.search(text, end)
        except (ValueError, RecursionError):
            # Inside of a broken value, which is indented, nothing stands for the whole.
            opening = _OPENING_LINE.search(text, end)


_NOTHING = object()


def _parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _NOTHING


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("out of range")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
