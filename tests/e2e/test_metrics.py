"""What `/metrics` says after runs, faults, tool calls and refusals, and to whom."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from runtime import __version__
from tests.e2e.server import Served, serving
from tests.scrape import GRAFANA, Scrape, scraped
from tests.upstream import FakeUpstream

TOKEN = "correct-horse-battery"
KEY = "sk-canary-0123456789"
TOOLS = {"tools": ["calculator", "current_time"]}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        yield server


@pytest.fixture
async def runtime(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Served]:
    async with serving(
        tmp_path,
        openai_base_url=upstream.base_url,
        openai_api_key=KEY,
        max_concurrent_runs=3,
        model_attempts=3,
    ) as served:
        yield served


async def until(runtime: Served, name: str, value: float, **labels: str) -> Scrape:
    """A run is counted when it has ended, which may be just after its answer."""
    found = await scraped(runtime.http)
    for _ in range(200):
        if found.sum(name, **labels) == value:
            return found
        await asyncio.sleep(0.01)
        found = await scraped(runtime.http)
    raise AssertionError(f"{name} {labels} is {found.sum(name, **labels)}, not {value}")


async def refused(runtime: Served, text: str, model: str = "assistant", **options: object) -> None:
    with pytest.raises(openai.APIError):
        await runtime.ask(model, text, **options)


async def test_every_run_is_counted_once_by_how_it_ended(runtime: Served) -> None:
    for _ in range(2):
        await runtime.ask("assistant", "words:5")
    await refused(runtime, "fault:400")
    found = await until(runtime, "ai_agent_requests_total", 3)

    of = {"agent": "assistant"}
    assert found.sum("agent_runtime_runs_total", **of, status="completed", error="") == 2
    failed = {"status": "failed", "error": "upstream_invalid_request"}
    assert found.sum("agent_runtime_runs_total", **of, **failed) == 1
    assert found.sum("ai_agent_requests_total", status="completed") == 2
    assert found.sum("ai_agent_requests_total", status="failed") == 1
    assert found.sum("agent_requests_total", status="processing") == 3
    assert found.sum("agent_requests_total", status="success") == 2
    assert found.sum("agent_requests_total", status="error") == 1
    for name in (
        "agent_runtime_run_duration_seconds",
        "ai_agent_duration_seconds",
        "agent_request_duration_seconds",
        "ai_agent_tokens_used",
    ):
        assert found.sum(f"{name}_count") == 3, name
    assert found.sum("agent_runtime_time_to_first_token_seconds_count", **of) == 2
    assert found.sum("agent_runtime_running_runs") == 0


async def test_tokens_are_those_of_the_usage_by_model(runtime: Served) -> None:
    answers = [
        await runtime.openai.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": f"words:{count}"}]
        )
        for count in (3, 4)
    ]
    found = await until(runtime, "ai_agent_requests_total", 2)

    used = [answer.usage for answer in answers if answer.usage]
    model = {"model": "openai/gpt-4.1-mini"}
    tokens = "agent_runtime_tokens_total"
    assert found.sum(tokens, **model, kind="input") == sum(each.prompt_tokens for each in used)
    assert found.sum(tokens, **model, kind="output") == 7
    assert found.sum("ai_agent_tokens_used_sum") == sum(each.total_tokens for each in used)


async def test_model_calls_tell_outcome_and_retries(runtime: Served) -> None:
    await runtime.ask("assistant", "fault:burst")
    await refused(runtime, "fault:401")
    found = await until(runtime, "ai_agent_requests_total", 2)

    calls = "agent_runtime_model_calls_total"
    assert found.sum(calls, provider="openai", outcome="success") == 1
    assert found.sum(calls, provider="openai", outcome="upstream_auth_failed") == 1
    assert found.sum("agent_runtime_model_retries_total", provider="openai") == 2
    assert found.sum("agent_runtime_model_call_duration_seconds_count", provider="openai") == 2
    assert found.sum("agent_runtime_provider_healthy", provider="openai") == 0
    assert found.sum("agent_runtime_provider_healthy", provider="demo") == 1


async def test_tool_calls_are_counted_by_tool_and_status(runtime: Served) -> None:
    agent = await runtime.publish(
        name="Sums", slug="sums", template_id="react-agent", template_config=TOOLS
    )
    await runtime.ask(agent["model"], 'Use calculator with {"expression": "6 * 7"}')
    await runtime.ask(agent["model"], 'Use calculator with {"expression": "6 *"}')
    found = await until(runtime, "ai_agent_requests_total", 2)

    assert found.sum("ai_tool_calls_total", tool_name="calculator", status="success") == 1
    assert found.sum("ai_tool_calls_total", tool_name="calculator", status="error") == 1
    assert found.sum("agent_runtime_tool_call_duration_seconds_count") == 2
    assert found.sum("agent_runtime_model_calls_total", outcome="success") == 4


async def test_what_does_not_begin_is_counted_as_refused(runtime: Served) -> None:
    asking = asyncio.create_task(runtime.ask("assistant", "fault:silent-headers", n=3))
    await until(runtime, "agent_runtime_running_runs", 3)
    await refused(runtime, "Hello")
    found = await scraped(runtime.http)
    asking.cancel()

    assert found.sum("agent_runtime_refusals_total", agent="assistant", reason="saturated") == 1
    assert found.sum("agent_runtime_admission_limit", of="process") == 3
    assert found.sum("agent_requests_total", status="processing") == 3
    found = await until(runtime, "ai_agent_requests_total", 3, status="cancelled")
    assert found.sum("agent_runtime_model_calls_total", outcome="cancelled") == 3
    await until(runtime, "agent_runtime_running_runs", 0)


async def test_the_instance_cache_tells_hits_misses_and_builds(runtime: Served) -> None:
    for _ in range(3):
        await runtime.ask("assistant")
    found = await scraped(runtime.http)

    assert found.sum("agent_cache_misses_total") == 1
    assert found.sum("agent_cache_hits_total") == 2
    assert found.sum("agent_runtime_instance_builds_total", outcome="success") == 1
    assert found.sum("agent_runtime_instances") == 1


async def test_requests_are_counted_by_declared_route_whatever_is_asked_for(
    runtime: Served,
) -> None:
    for number in range(3):
        await runtime.http.get(f"/v1/agents/agent_{number}")
        await runtime.http.get(f"/made/up/{number}")
    await runtime.http.request("PROPFIND", "/v1/models")
    await runtime.http.get("/healthz", headers={"Origin": "https://evil.example"})
    found = await scraped(runtime.http)

    requests = "agent_runtime_http_requests_total"
    assert found.sum(requests, method="GET", route="/v1/agents/{id}", status="404") == 3
    assert found.sum(requests, route="unmatched", status="404") == 3
    assert found.sum(requests, route="unmatched", status="403") == 1
    assert found.sum(requests, method="other", status="405") == 1
    declared = set((await runtime.get("/openapi.json"))["paths"])
    assert found.values(requests, "route") <= declared | {"unmatched"}
    assert found.sum("agent_runtime_http_request_duration_seconds_count") == found.sum(requests)


async def test_it_says_which_version_runs_and_what_it_takes(runtime: Served) -> None:
    found = await scraped(runtime.http)

    assert found.sum("agent_runtime_build_info", version=__version__) == 1
    assert found.sum("process_resident_memory_bytes") > 10_000_000
    assert found.sum("process_cpu_seconds_total") > 0
    assert found.sum("process_open_fds") > 3
    assert found.sum("agent_runtime_recorder_backlog") == 0
    assert found.sum("agent_runtime_template_problems") == 0


async def test_a_template_that_does_not_load_shows(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "broken.py").write_text("import nothing_like_that\n")
    async with serving(tmp_path, template_dirs=[tmp_path / "templates"]) as runtime:
        found = await scraped(runtime.http)

    assert found.sum("agent_runtime_template_problems") == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=1.0.0", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", "application/openmetrics-text"),
        ("application/openmetrics-text;version=nonsense", "application/openmetrics-text"),
    ],
)
async def test_a_scraper_gets_the_format_it_asks_for(
    runtime: Served, accept: str, content_type: str
) -> None:
    await runtime.ask("assistant")
    response = await runtime.http.get("/metrics", headers={"Accept": accept})

    assert response.headers["content-type"].startswith(content_type)
    open_metrics = content_type.startswith("application")
    assert response.text.endswith("# EOF\n") is open_metrics
    found = Scrape.of(response.text, open_metrics=open_metrics)
    assert found.sum("agent_runtime_runs_total") == 1


async def test_with_a_credential_nobody_scrapes_without_it(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, token=TOKEN) as guarded,
        httpx.AsyncClient(base_url=guarded.url) as stranger,
    ):
        without = await stranger.get("/metrics")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert (await stranger.get("/metrics", headers=bearer)).status_code == 200

    assert without.status_code == 401
    assert "agent_runtime" not in without.text


async def test_no_metric_holds_a_secret_or_a_word_of_a_conversation(
    runtime: Served, upstream: FakeUpstream
) -> None:
    await runtime.ask("assistant", "pomegranate")
    await refused(runtime, "fault:500 pomegranate")
    text = (await runtime.http.get("/metrics")).text

    for secret in (KEY, "pomegranate", upstream.base_url):
        assert secret not in text


async def test_two_runtimes_in_one_process_count_for_themselves(
    runtime: Served, tmp_path: Path
) -> None:
    async with serving(tmp_path / "second") as second:
        await second.ask("assistant")
        assert (await scraped(second.http)).sum("agent_runtime_runs_total") == 1
    assert (await scraped(runtime.http)).sum("agent_runtime_runs_total") == 0


def used_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:ai|agent|process)_[a-z_]+\b", expression))


def asked_for_by_panels() -> set[str]:
    dashboard = json.loads((GRAFANA / "agent-runtime.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries = [variable.get("query", "") for variable in dashboard["templating"]["list"]]
    return set().union(*(used_in(text) for text in [t["expr"] for t in targets] + queries))


def asked_for_by_alerts() -> set[str]:
    groups = yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"]
    return set().union(*(used_in(rule["expr"]) for group in groups for rule in group["rules"]))


def documented() -> set[str]:
    page = (GRAFANA.parent / "operations.md").read_text()
    return set(re.findall(r"^\| `((?:ai|agent|process)_[a-z_]+)` \|", page, re.MULTILINE))


async def test_the_dashboard_the_alerts_and_the_table_name_metrics_that_exist(
    runtime: Served,
) -> None:
    agent = await runtime.publish(
        name="Sums", slug="sums", template_id="react-agent", template_config=TOOLS
    )
    await runtime.ask(agent["model"], 'Use calculator with {"expression": "6 * 7"}')
    await runtime.ask("assistant", "fault:burst")
    await refused(runtime, "Hello", n=4)
    text = (await runtime.http.get("/metrics")).text
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    known = Scrape.of(text).names | families

    asked = asked_for_by_panels() | asked_for_by_alerts()
    labels = {"agent_type", "agent_runtime"}
    assert asked - known - labels == set()
    ours = {name for name in families if not name.startswith("process_")}
    assert documented() - families == set()
    assert ours - documented() == set()
