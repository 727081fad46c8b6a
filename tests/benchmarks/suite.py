"""What is measured: every case on every server, in turns, several times over."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import sleep

import pytest

from tests.benchmarks import durable, encoders, servers
from tests.benchmarks.load import Door, Generator, Job, Result
from tests.benchmarks.servers import TOKEN, Server, Target
from tests.postgres import fresh_database

SETTLE_S = 0.5
"""Between being ready and being idle; between the end of a load and looking at its cost."""
_SLOW = "c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    key: str
    connections: int
    stream: bool
    seconds: float = 0
    delay_ms: int = 0
    model: str = servers.ONE_NODE
    turns: int = 0
    """Each request is a turn of a session, of so many turns; 0: of none."""
    long: bool = False
    """Each request is a turn of a conversation of 500 messages."""
    door: Door = "openai"
    models: Sequence[str] = ()
    """Without an agent; several: at once, in one request."""
    slow_once: bool = False
    """Only in the first round for the slow one: it takes half a minute."""

    def is_for(self, target: Target, *, first: bool) -> bool:
        """The others have one agent and one door only."""
        special = self.model != servers.ONE_NODE or self.turns or self.long
        if (special or self.door != "openai") and not target.is_product:
            return False
        return first or not (self.slow_once and target.key == _SLOW)

    def job(self, server: Server) -> Job:
        return Job(
            port=server.port,
            token=TOKEN,
            model=self.model,
            connections=self.connections,
            stream=self.stream,
            seconds=self.seconds,
            delay_ms=self.delay_ms,
            turns=self.turns,
            door=self.door,
            models=self.models,
            conversations=servers.long_conversations(server, self.connections) if self.long else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    rounds: int
    cases: Sequence[Case]
    held_streams: int
    """0: the memory of an open stream is not measured."""
    warm_up_s: float
    encoder_passes: int = 0
    """How many streams each format's encoder is measured with; 0: none."""
    targets: Sequence[str] = ("a", "b", "c", "d", "e")
    durable_runs: durable.Plan | None = None
    """None: durable runs are not measured."""


def side_by_side(*, streams: int, seconds: float, delay_ms: int = 0) -> Sequence[Case]:
    """The same streams of models three a request, and one a request."""
    kind = "paced" if delay_ms else "full"
    three, one = (
        Case(
            key=f"{key}-{kind}",
            connections=streams // len(models),
            stream=True,
            seconds=seconds,
            delay_ms=delay_ms,
            door="streaming",
            models=models,
        )
        for key, models in (("three", servers.MODELS), ("one", servers.MODELS[:1]))
    )
    return one, three


FULL = Plan(
    rounds=3,
    cases=(
        Case(key="whole", connections=32, stream=False, seconds=2),
        Case(key="streams-1", connections=1, stream=True, seconds=1),
        Case(key="streams-50", connections=50, stream=True, seconds=2),
        Case(key="sse-50", connections=50, stream=True, seconds=2, door="streaming"),
        Case(key="ws-50", connections=50, stream=True, seconds=2, door="websocket"),
        Case(key="paced-50", connections=50, stream=True, delay_ms=20),
        *side_by_side(streams=48, seconds=2),
        *side_by_side(streams=48, seconds=4, delay_ms=20),
        Case(key="tools", connections=32, stream=False, seconds=2, model=servers.WITH_TOOLS),
        Case(key="session", connections=32, stream=False, seconds=2, turns=10),
        Case(key="long-session", connections=32, stream=False, seconds=2, long=True),
        Case(key="tools-streams", connections=50, stream=True, seconds=2, model=servers.WITH_TOOLS),
        Case(key="streams-200", connections=200, stream=True, slow_once=True),
        Case(key="streams-500", connections=500, stream=True, slow_once=True),
        Case(key="sse-500", connections=500, stream=True, seconds=3, door="streaming"),
        Case(key="ws-500", connections=500, stream=True, seconds=3, door="websocket"),
    ),
    held_streams=500,
    warm_up_s=0.5,
    encoder_passes=200,
    durable_runs=durable.FULL,
)
QUICK = Plan(
    rounds=1,
    cases=(
        Case(key="whole", connections=32, stream=False, seconds=1),
        Case(key="streams-1", connections=1, stream=True, seconds=0.5),
        Case(key="streams-50", connections=50, stream=True, seconds=0.5),
        Case(key="sse-50", connections=50, stream=True, seconds=0.5, door="streaming"),
        Case(key="ws-50", connections=50, stream=True, seconds=0.5, door="websocket"),
        Case(key="paced-50", connections=50, stream=True, delay_ms=10),
        *side_by_side(streams=48, seconds=0.5),
        *side_by_side(streams=48, seconds=0.5, delay_ms=10),
        Case(key="tools", connections=32, stream=False, seconds=1, model=servers.WITH_TOOLS),
        Case(key="session", connections=32, stream=False, seconds=1, turns=10),
        Case(key="long-session", connections=32, stream=False, seconds=1, long=True),
    ),
    held_streams=0,
    warm_up_s=0.2,
    encoder_passes=50,
    targets=("a", "b", "c", "d"),
    durable_runs=durable.QUICK,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One case on one server in one round."""

    result: Result
    cpu_s: float

    @property
    def answers_per_s(self) -> float:
        return self.result.answers / self.result.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.result.tokens / self.result.seconds

    @property
    def cpu_ms_per_answer(self) -> float:
        return self.cpu_s * 1_000 / max(1, self.result.answers)

    @property
    def cpu_us_per_token(self) -> float:
        return self.cpu_s * 1_000_000 / max(1, self.result.tokens)


@dataclass
class Record:
    """Everything measured about one server."""

    target: Target
    first_start_s: float = 0.0
    kb_per_stream: float = 0.0
    starts_s: list[float] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: int = 0

    def median(self, case: str, figure: Callable[[Sample], float]) -> float | None:
        samples = self.samples.get(case)
        return median(figure(sample) for sample in samples) if samples else None


@dataclass
class Measured:
    plan: Plan
    records: dict[str, Record]
    notes: list[str]
    encoder_costs: Sequence[encoders.Cost] = ()
    durable_runs: dict[str, durable.Figures] = field(default_factory=dict)
    """By the letter of the server."""


def measure(plan: Plan) -> Measured:
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        provider = opened.enter_context(servers.running(servers.upstream(), folder))
        load = opened.enter_context(Generator())
        measured = Measured(plan, {}, [], encoders.measure(plan.encoder_passes))
        if "a" in plan.targets:
            measured.records["a"] = Record(provider.target)
        targets = [
            servers.forwarder(provider.url),
            servers.minimal(provider.url),
            servers.product(provider.url, folder / "sqlite"),
        ]
        if "e" in plan.targets:
            try:
                url = opened.enter_context(fresh_database())
            except pytest.skip.Exception as reason:
                measured.notes.append(f"(e) is left out: {reason}")
            else:
                data_dir = folder / "postgres"
                targets.append(servers.product(provider.url, data_dir, postgres_url=url))
        for target in targets:
            if target.key in plan.targets:
                measured.records[target.key] = _first_run(target, folder, load, plan)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            _round(measured, provider, folder, load, first=number == 0)
        if plan.durable_runs:
            for key, record in measured.records.items():
                if record.target.is_product:
                    say(f"durable runs of ({key}) {record.target.title}")
                    figures = durable.measure(record.target, folder, plan.durable_runs)
                    measured.durable_runs[key] = asyncio.run(figures)
        return measured


def _first_run(target: Target, folder: Path, load: Generator, plan: Plan) -> Record:
    record = Record(target)
    if target.is_product:
        say(f"first start of ({target.key}) {target.title}")
        with servers.running(servers.without_credential(target), folder) as server:
            record.first_start_s = server.start_s
            servers.publish_agents(server)
    if plan.held_streams:
        say(f"open streams of ({target.key}) {target.title}")
        with servers.running(target, folder) as server:
            record.kb_per_stream, errors = _open_stream_kb(server, load, plan)
            record.errors += errors
    return record


def _open_stream_kb(server: Server, load: Generator, plan: Plan) -> tuple[float, int]:
    """What a stream takes while it is open, in a process that has seen no load yet; and errors."""
    load.run(_warm_up(server, plan, stream=True))
    before_mb = server.rss_mb()
    while_open_mb: list[float] = []
    job = Job(
        port=server.port,
        token=TOKEN,
        connections=plan.held_streams,
        stream=True,
        delay_ms=1_000,
        hold=True,
    )
    result = load.run(job, while_open=lambda: while_open_mb.append(server.rss_mb()))
    growth_mb = while_open_mb[0] - before_mb if while_open_mb else 0.0
    return growth_mb * 1_024 / plan.held_streams, result.errors


def _round(
    measured: Measured, provider: Server, folder: Path, load: Generator, *, first: bool
) -> None:
    plan = measured.plan
    with ExitStack() as running:
        started = [provider] if "a" in measured.records else []
        for key, record in measured.records.items():
            if key == "a":
                continue
            server = running.enter_context(servers.running(record.target, folder))
            started.append(server)
            record.starts_s.append(server.start_s)
            sleep(SETTLE_S)
            record.idle_mb.append(server.rss_mb())
            for stream in (False, True):
                load.run(_warm_up(server, plan, stream=stream))
        for case in plan.cases:
            for server in started:
                if case.is_for(server.target, first=first):
                    _take(measured.records[server.target.key], server, load, case)
        for server in started:
            measured.records[server.target.key].peak_mb.append(server.peak_rss_mb())


def _take(record: Record, server: Server, load: Generator, case: Case) -> None:
    job = case.job(server)
    before_s = server.cpu_s()
    result = load.run(job)
    # What a request leaves to be done later, such as its record, is part of its cost.
    sleep(SETTLE_S / 2)
    sample = Sample(result, server.cpu_s() - before_s)
    record.samples.setdefault(case.key, []).append(sample)
    record.errors += result.errors
    say(
        f"  {case.key:12} ({server.target.key}) {sample.answers_per_s:8.1f} answers/s "
        f"{sample.cpu_ms_per_answer:7.2f} ms CPU, first token "
        f"{result.first_token_p50_ms:7.1f} ms, {result.errors} errors"
    )


def _warm_up(server: Server, plan: Plan, *, stream: bool) -> Job:
    return Job(port=server.port, token=TOKEN, connections=8, stream=stream, seconds=plan.warm_up_s)


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
