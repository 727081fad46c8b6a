"""What an event costs in each format of a streaming door, in this process and without a network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time_ns

import orjson

from runtime.application.services.execution import Execution
from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.generation import Generation
from runtime.application.services.generation.sources import Batch, Source, Sourced
from runtime.application.services.generation.standard import Standard
from runtime.domain.events.runs import (
    ReasoningDelta,
    RunCompleted,
    RunEvent,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.web.streaming.encoders import Encoder
from runtime.infrastructure.web.streaming.formats import FORMATS
from runtime.infrastructure.web.websocket.frames import StreamFrames
from runtime.infrastructure.web.websocket.protocol import texts
from tests.benchmarks.upstream import TOKENS

FLOOR = "floor: one `orjson.dumps` an event"
ONE_BY_ONE = "one a batch"
TOGETHER = "16 a batch"
NOT_ASCII = "not ASCII"
WITH_TOOLS = "with tools"
ROUNDS = 5
_AT_ONCE = 16
_RUN = RunId("run_bench")
_ENDED = RunCompleted("stop", Usage(12, TOKENS))

Encode = Callable[[Batch], bytes]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one format: µs of CPU time an event, by the kind of stream."""

    format: str
    us: Mapping[str, float]


def measure(passes: int) -> Sequence[Cost]:
    """The median of some rounds of so many streams; 0: nothing is measured."""
    batches = {kind: list(stream) for kind, stream in streams().items()}
    return [
        Cost(name, {kind: _us(begin, stream, passes) for kind, stream in batches.items()})
        for name, begin in begun().items()
        if passes
    ]


def _us(begin: Callable[[], Encode], stream: Sequence[Batch], passes: int) -> float:
    events = passes * sum(map(len, stream))
    return median(_pass_ns(begin, stream, passes) for _ in range(ROUNDS)) / events / 1_000


def _pass_ns(begin: Callable[[], Encode], stream: Sequence[Batch], passes: int) -> int:
    since = process_time_ns()
    for _ in range(passes):
        encode = begin()
        for batch in stream:
            encode(batch)
    return process_time_ns() - since


def begun() -> dict[str, Callable[[], Encode]]:
    """By format: what begins a stream, since what is made once for each is part of the cost."""
    formats = {name: _encoder(format) for name, format in FORMATS.items()}
    generation = Generation([Source(0, "bench", _unasked)], Standard(ModeConfig({})))
    return {FLOOR: lambda: _dumped, **formats, "WebSocket": lambda: _frames(generation)}


def _encoder(format: type[Encoder]) -> Callable[[], Encode]:
    return lambda: format(["bench"]).encode


def _frames(generation: Generation) -> Encode:
    """As a connection says them: a batch in one write, each event a frame of its own."""
    frames = StreamFrames("req_bench", generation, lambda _: None)
    number = 0

    def encode(batch: Batch) -> bytes:
        nonlocal number
        out = []
        for each in batch:
            if event := frames.encode(number + 1, each):
                number += 1
                out.append(event)
        return texts(out)

    return encode


async def _unasked() -> Execution:
    raise AssertionError("only encoded here, nothing runs")


def _dumped(batch: Batch) -> bytes:
    out = bytearray()
    for each in batch:
        text = getattr(each.event, "text", "")
        out += b"data: %b\n\n" % orjson.dumps({"type": each.event.type, "content": text})
    return bytes(out)


def streams() -> dict[str, Iterator[Batch]]:
    ascii = [TextDelta(f" token{n}") for n in range(TOKENS)]
    other = [TextDelta(f" жетон{n}\N{IDEOGRAPHIC FULL STOP}") for n in range(TOKENS)]
    return {
        ONE_BY_ONE: _batches(ascii, 1),
        TOGETHER: _batches(ascii, _AT_ONCE),
        NOT_ASCII: _batches(other, 1),
        WITH_TOOLS: _batches(list(_worked()), 1),
    }


def _batches(deltas: Sequence[RunEvent], size: int) -> Iterator[Batch]:
    started: Sequence[RunEvent] = [RunStarted(_RUN), StepStarted("step_1", "model")]
    ended: Sequence[RunEvent] = [StepFinished("step_1", "model", "success", 812.5), _ENDED]
    pieces = [deltas[start : start + size] for start in range(0, len(deltas), size)]
    for events in (started, *pieces, ended):
        yield [Sourced(0, event) for event in events]


def _worked() -> Iterator[RunEvent]:
    """An agent thinks and uses tools of its own, answers, and leaves one for the caller."""
    for turn in range(4):
        for n in range(8):
            yield ReasoningDelta(f" thought{n}")
        id = f"call_{turn}"
        yield ToolCalled(id, "search", '{"query": "the answer", "limit": 5}')
        yield ToolReturned(id, "search", "success", '{"found": ["forty-two", "as ever"]}', 31.4)
        for n in range(8):
            yield TextDelta(f" token{n}")
    yield ToolCallDelta(0, "call_own", "show")
    for piece in ('{"what"', ": ", '"answer"}'):
        yield ToolCallDelta(0, arguments=piece)
