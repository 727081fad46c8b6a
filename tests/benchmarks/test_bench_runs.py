"""The benchmark works: every part of it, at its smallest, with nothing said about speed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

from runtime.infrastructure.web.streaming.formats import FORMATS
from tests.benchmarks import durable, encoders, profiling, report, servers, suite
from tests.benchmarks.figures import by_round, cpu_ms
from tests.benchmarks.goals import GOALS
from tests.benchmarks.load import Generator, Job, Result, percentile_ms
from tests.benchmarks.profiled import Profile
from tests.benchmarks.servers import TOKEN, Server, Target
from tests.benchmarks.suite import Case, Measured, Plan, Record, Sample
from tests.benchmarks.upstream import TOKENS, WHOLE_ANSWER, stream_text

SMALLEST = Plan(
    rounds=1,
    cases=(
        Case(key="whole", connections=2, stream=False),
        Case(key="streams-1", connections=1, stream=True),
        Case(key="streams-50", connections=3, stream=True),
        Case(key="sse-50", connections=3, stream=True, door="streaming"),
        Case(key="ws-50", connections=3, stream=True, door="websocket"),
        *suite.side_by_side(streams=3, seconds=0),
        *suite.side_by_side(streams=3, seconds=0, delay_ms=1),
        Case(key="tools", connections=2, stream=False, model=servers.WITH_TOOLS),
    ),
    held_streams=0,
    warm_up_s=0,
    encoder_passes=1,
    targets=("a", "b", "d"),
    durable_runs=durable.Plan(
        rounds=1, runs=1, batches=1, tokens=2, cancels=1, pick_ups=1, idle_s=0.1
    ),
)


@pytest.fixture(scope="module")
def load() -> Iterator[Generator]:
    with Generator() as generator:
        yield generator


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.running(servers.upstream(), tmp_path_factory.mktemp("upstream")) as server:
        yield server


@pytest.fixture(scope="module")
def measured() -> Measured:
    return suite.measure(SMALLEST)


def job(server: Server, *, stream: bool) -> Job:
    return Job(port=server.port, token=TOKEN, connections=2, stream=stream)


def content_of(stream: str) -> str:
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [orjson.loads(line) for line in lines[:-1]]
    return "".join(
        choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
    )


def a_record(target: Target, cpu_s: Sequence[float]) -> Record:
    """One with an answer for each of `cpu_s`, not streamed."""
    result = Result(
        answers=1,
        tokens=0,
        errors=0,
        seconds=1,
        latency_p50_ms=1,
        latency_p95_ms=1,
        first_token_p50_ms=0,
        first_token_p95_ms=0,
    )
    return Record(target, samples={"whole": [Sample(result, each) for each in cpu_s]})


def ask(server: Server, *, stream: bool) -> httpx.Response:
    body = {"model": "bench", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=30)


@pytest.mark.parametrize("make", [servers.forwarder, servers.minimal], ids=["b", "c"])
def test_what_the_runtime_is_compared_with_gives_the_whole_answer(
    make: Callable[[str], Target], upstream: Server, load: Generator, tmp_path: Path
) -> None:
    with servers.running(make(upstream.url), tmp_path) as server:
        whole = ask(server, stream=False).json()
        streamed = ask(server, stream=True).text
        counted = [load.run(job(server, stream=stream)) for stream in (False, True)]

    assert whole["choices"][0]["message"]["content"] == WHOLE_ANSWER
    assert content_of(streamed) == stream_text()
    assert [(each.answers, each.errors) for each in counted] == [(2, 0), (2, 0)]


def test_every_figure_is_measured_without_an_error(measured: Measured) -> None:
    assert list(measured.records) == ["a", "b", "d"]
    for record in measured.records.values():
        assert record.errors == 0
        assert {
            key: [sample.result.answers for sample in samples]
            for key, samples in record.samples.items()
        } == {
            case.key: [case.connections]
            for case in SMALLEST.cases
            if case.is_for(record.target, first=True)
        }
    product = measured.records["d"]
    assert product.first_start_s > 0
    assert len(product.starts_s) == len(product.idle_mb) == len(product.peak_mb) == 1


def test_the_page_has_a_row_for_every_server_and_a_dash_for_what_was_not_measured(
    measured: Measured,
) -> None:
    page = report.page(report.tables(measured))

    assert page.startswith("# Performance\n")
    assert page.count("\n| (d) Agent runtime, SQLite |") == len(report.TABLES) + 1
    assert "| requests/s, d/c | ≥ 2\N{MULTIPLICATION SIGN} | \N{EN DASH} | \N{EN DASH} |" in page


def test_durable_runs_are_ordered_read_cancelled_and_picked_up(measured: Measured) -> None:
    (figures,) = measured.durable_runs.values()

    assert len(figures.news_ms) == 2
    assert len(figures.append_us) == len(figures.cancel_ms) == len(figures.pick_up_s) == 1
    assert figures.durable_cpu_ms > [0]
    assert figures.other_news_ms == []
    assert "\n### Durable runs of an agent with tools\n" in report.tables(measured)


def test_every_format_of_a_stream_has_the_cost_of_its_encoder(measured: Measured) -> None:
    costs = {cost.format: cost.us for cost in measured.encoder_costs}

    assert list(costs) == [encoders.FLOOR, *FORMATS, "WebSocket"]
    assert all(us > 0 for each in costs.values() for us in each.values())
    assert "\n| WebSocket |" in report.tables(measured)


def test_what_each_encoder_is_measured_with_comes_out_of_it() -> None:
    for kind, stream in encoders.streams().items():
        batches = list(stream)
        for name, begin in encoders.begun().items():
            encode = begin()
            out = b"".join(encode(batch) for batch in batches)
            assert out.count(b"token") + out.count("жетон".encode()) >= 32, (name, kind)


def test_an_answer_of_three_models_is_whole_with_the_tokens_of_all(
    measured: Measured,
) -> None:
    for kind in ("full", "paced"):
        (three,) = measured.records["d"].samples[f"three-{kind}"]
        (one,) = measured.records["d"].samples[f"one-{kind}"]
        assert three.result.tokens == one.result.tokens == 3 * TOKENS


def test_an_answer_that_does_not_come_to_its_end_is_an_error(
    upstream: Server, load: Generator
) -> None:
    slow = replace(job(upstream, stream=True), delay_ms=60_000, limit_s=0.1)
    result = load.run(slow)

    assert (result.answers, result.errors) == (0, 2)


def test_a_refusal_is_an_error(tmp_path: Path, upstream: Server, load: Generator) -> None:
    nowhere = servers.forwarder(f"http://127.0.0.1:{servers.free_port()}")
    with servers.running(nowhere, tmp_path) as server:
        result = load.run(job(server, stream=True))

    assert (result.answers, result.errors) == (0, 2)


def test_a_job_that_holds_says_when_every_stream_is_open(upstream: Server, load: Generator) -> None:
    seen: list[str] = []
    result = load.run(
        replace(job(upstream, stream=True), delay_ms=1, tokens=100_000, hold=True),
        while_open=lambda: seen.append("open"),
    )

    assert seen == ["open"]
    assert (result.answers, result.errors) == (2, 0)


def test_a_ratio_is_of_medians_and_a_goal_says_whether_it_is_reached() -> None:
    records = {
        "c": a_record(servers.minimal(""), [1.0, 9.0, 2.0]),
        "d": a_record(servers.product("", Path()), [0.5, 0.1, 7.0]),
    }
    (goal,) = (goal for goal in GOALS if goal.name == "CPU/request, d/c")

    assert goal.row(Measured(SMALLEST, records, []))[2:] == ["0.25\N{MULTIPLICATION SIGN}", "yes"]


def test_two_cases_of_one_server_are_compared_round_by_round() -> None:
    record = a_record(servers.product("", Path()), [1.0, 8.0, 2.0])
    record.samples["twice"] = a_record(record.target, [2.0, 16.0, 2.0]).samples["whole"]

    assert by_round("twice", "whole", cpu_ms)(record) == 2
    assert by_round("absent", "missing", cpu_ms)(record) is None


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile_ms([0.004, 0.001, 0.003, 0.002], 50) == 2.0
    assert percentile_ms([], 95) == 0.0


def test_a_profile_tells_what_an_answer_costs_by_function(
    upstream: Server, load: Generator, tmp_path: Path
) -> None:
    case = Case(key="some streams", connections=4, stream=True, seconds=0.3)
    with profiling.sampled_product(upstream, tmp_path) as (server, output):
        sample, profile = profiling.profiled(server, load, case, output)

    assert sample.result.errors == 0
    assert profile.samples == sum(profile.own.values()) > 0
    assert "some streams: " in profiling.shown(case, sample, profile)


def test_a_profile_names_files_without_the_folders_in_front() -> None:
    shown = profiling.shown(
        Case(key="x", connections=1, stream=False),
        a_record(servers.minimal(""), [1.0]).samples["whole"][0],
        Profile(1, own=Counter({"/any/where/site-packages/lib/a.py:1 f": 1})),
    )

    assert "lib/a.py:1 f" in shown
    assert "/any/where" not in shown
