"""Traces as a collector gets them, and the runtime without any."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from runtime import __version__
from runtime.domain.value_objects.ids import new_run_id
from runtime.infrastructure.monitoring.tracing import Tracing
from tests.collector import Collector, ReceivedSpan
from tests.contracts.samples import a_line, a_run, a_version
from tests.e2e.server import Served, serving
from tests.upstream import FakeUpstream

KEY = "sk-canary-0123456789"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TOOLS = {"tools": ["calculator", "current_time"]}
SUM = 'Use calculator with {"expression": "6 * 7"}'


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        yield server


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with Collector() as server:
        yield server


@pytest.fixture
async def runtime(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> AsyncIterator[Served]:
    async with serving(
        tmp_path,
        openai_base_url=upstream.base_url,
        openai_api_key=KEY,
        otel_endpoint=collector.endpoint,
    ) as served:
        yield served


async def sums(runtime: Served) -> str:
    agent = await runtime.publish(
        name="Sums", slug="sums", template_id="react-agent", template_config=TOOLS
    )
    return str(agent["model"])


def named(spans: list[ReceivedSpan], start: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.name.startswith(start)]


async def test_model_and_tool_calls_are_spans_under_their_run(
    runtime: Served, collector: Collector
) -> None:
    await runtime.ask(await sums(runtime), SUM, temperature=0.5)
    spans = await collector.after(runs=1)
    (run,) = named(spans, "invoke_agent")
    (tool,) = named(spans, "execute_tool")
    first, second = named(spans, "chat")
    (record,) = (await runtime.get("/v1/runs"))["data"]

    assert run.parent_id == ""
    assert {span.parent_id for span in (first, second, tool)} == {run.id}
    assert {span.trace_id for span in spans} == {run.trace_id}
    assert run.name == "invoke_agent sums"
    assert run.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert run.attributes["gen_ai.agent.name"] == "sums"
    assert run.attributes["gen_ai.agent.id"] == record["agent_id"]
    assert run.attributes["gen_ai.agent.version"] == "v1"
    assert run.attributes["agent_runtime.run.id"] == record["id"]
    assert run.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    used = "gen_ai.usage.output_tokens"
    assert run.attributes[used] == sum(int(str(each.attributes[used])) for each in (first, second))
    assert (first.name, first.kind) == ("chat gpt-4.1-mini", Span.SPAN_KIND_CLIENT)
    assert first.attributes["gen_ai.provider.name"] == "openai"
    assert first.attributes["gen_ai.request.model"] == "gpt-4.1-mini"
    assert first.attributes["gen_ai.request.temperature"] == 0.5
    assert first.attributes["gen_ai.response.model"] == "fake-1"
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert (tool.name, tool.failed) == ("execute_tool calculator", False)
    assert tool.attributes["gen_ai.tool.name"] == "calculator"
    assert tool.attributes["gen_ai.tool.call.id"] == "call_0"
    assert collector.resource["service.name"] == "agent-runtime"
    assert collector.resource["service.version"] == __version__


async def test_a_call_that_embeds_is_a_span_and_goes_on_at_the_provider(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    await runtime.openai.embeddings.create(model="text-embedding-3-small", input="x")
    await runtime.ask("assistant")
    (span,) = named(await collector.after(runs=1), "embeddings")

    assert span.name == "embeddings text-embedding-3-small"
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    assert span.trace_id in upstream.requests[0].headers["traceparent"]


async def test_a_long_stream_makes_as_many_spans_as_a_short_one(
    runtime: Served, collector: Collector
) -> None:
    counts: list[tuple[int, int]] = []
    for tokens in (1, 64):
        stream = await runtime.openai.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": f"words:{tokens}"}],
            stream=True,
        )
        pieces = [chunk async for chunk in stream if chunk.choices]
        assert len(pieces) > tokens
        spans = await collector.after(runs=len(counts) + 1)
        counts.append((len(spans), sum(span.events for span in spans)))

    assert counts == [(2, 0), (4, 0)]


async def test_a_caller_s_trace_goes_on_through_the_run_to_the_provider(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=secret"}
    await runtime.ask("assistant", extra_headers=headers)
    spans = await collector.after(runs=1)
    (run,), (call,) = named(spans, "invoke_agent"), named(spans, "chat")
    (request,) = upstream.requests

    assert (run.trace_id, run.parent_id) == (TRACE, CALLER)
    assert request.headers["traceparent"] == f"00-{TRACE}-{call.id}-01"
    assert "tracestate" not in request.headers


async def test_a_caller_that_does_not_sample_is_followed(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    await runtime.ask("assistant", extra_headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    await runtime.ask("assistant", extra_headers={"traceparent": "00-nonsense"})
    spans = await collector.after(runs=1)

    assert upstream.requests[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert upstream.requests[0].headers["traceparent"].endswith("-00")
    assert TRACE not in {span.trace_id for span in spans}


async def test_choices_are_runs_side_by_side(runtime: Served, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    await runtime.ask("assistant", n=2, extra_headers=headers)
    spans = await collector.after(runs=2)
    runs = named(spans, "invoke_agent")

    assert {run.parent_id for run in runs} == {CALLER}
    assert {call.parent_id for call in named(spans, "chat")} == {run.id for run in runs}


async def test_failures_show_by_their_code_and_never_by_their_text(
    runtime: Served, collector: Collector
) -> None:
    with pytest.raises(openai.APIError):
        await runtime.ask("assistant", "fault:401")
    await runtime.ask(await sums(runtime), 'Use calculator with {"expression": "6 *"}')
    spans = await collector.after(runs=2)
    failed = {span.name: span.attributes["error.type"] for span in spans if span.failed}

    assert failed == {
        "invoke_agent assistant": "upstream_auth_failed",
        "chat gpt-4.1-mini": "upstream_auth_failed",
        "execute_tool calculator": "tool_error",
    }
    assert {(span.message, span.events) for span in spans} == {("", 0)}


async def test_a_client_that_leaves_ends_its_spans_as_cancelled(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    asking = asyncio.create_task(runtime.ask("assistant", "fault:silent-headers"))
    await upstream.arrived.wait()
    asking.cancel()
    spans = await collector.after(runs=1)

    assert {span.attributes["error.type"] for span in spans} == {"cancelled"}


async def test_retries_are_one_span_that_counts_them(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    await runtime.ask("assistant", "fault:burst")
    (call,) = named(await collector.after(runs=1), "chat")

    assert call.attributes["agent_runtime.retries"] == 2
    assert len({request.headers["traceparent"] for request in upstream.requests}) == 1


async def test_no_span_holds_a_secret_or_a_word_of_a_conversation(
    runtime: Served, collector: Collector, upstream: FakeUpstream
) -> None:
    agent = await sums(runtime)
    await runtime.ask(agent, 'pomegranate: use calculator with {"expression": "123456 * 7"}')
    with pytest.raises(openai.APIError):
        await runtime.ask("assistant", "fault:500 pomegranate")
    await collector.after(runs=2)

    for secret in (KEY, "pomegranate", "123456", "864192", upstream.base_url):
        assert secret.encode() not in collector.raw


async def test_what_is_left_is_sent_when_the_runtime_stops(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    async with serving(tmp_path, otel_endpoint=collector.endpoint) as runtime:
        await runtime.ask("assistant")
        assert collector.spans == []

    assert len(collector.spans) == 2


async def test_a_collector_that_hangs_holds_no_run_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    collector = Collector(hang=True)
    async with collector, serving(tmp_path, otel_endpoint=collector.endpoint) as runtime:
        await runtime.ask("assistant")
        await collector.arrived.wait()
        assert "[demo]" in await runtime.ask("assistant")
        collector.released.set()


async def test_a_collector_that_hangs_does_not_hold_up_the_stop() -> None:
    async with Collector(hang=True) as collector:
        traces = Tracing(collector.endpoint, flush_s=0.1)
        agent = a_version(a_line())
        traces.run(new_run_id(), agent).ended(a_run())
        async with asyncio.timeout(5):
            await traces.aclose()
        await collector.arrived.wait()


async def test_without_traces_the_provider_gets_no_traceparent(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with serving(tmp_path, openai_base_url=upstream.base_url) as runtime:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        await runtime.ask("assistant", extra_headers=headers)

    assert "traceparent" not in upstream.requests[0].headers


LOADED = """
import sys
from runtime.infrastructure.container import Container
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.web.app import create_app
create_app(Container(settings=Settings(data_dir={folder!r})))
print(*sys.modules)
"""
MISSING = """
import sys
sys.modules["opentelemetry.sdk"] = None
from runtime.cli.main import main
main()
"""


def python(code: str, folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_without_traces_nothing_of_the_sdk_is_loaded(tmp_path: Path) -> None:
    _, loaded, _ = python(LOADED.format(folder=str(tmp_path)), tmp_path)

    modules = set(loaded.split())
    assert "runtime.infrastructure.web.app" in modules
    heavy = (
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "opentelemetry.proto",
        "google.protobuf",
    )
    assert [name for name in modules if name.startswith(heavy)] == []


def test_traces_without_their_extra_stop_the_start_with_what_to_install(tmp_path: Path) -> None:
    endpoint = "http://127.0.0.1:4318"
    code, _, error = python(
        MISSING, tmp_path, "serve", "--port", "0", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint
    )

    assert code == 2
    assert "pip install 'agent-runtime[otel]'" in error
    assert "Traceback" not in error
