"""The log of a runtime that people run: whose line it is, and where it goes."""

import json
from asyncio import to_thread
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.collector import Collector
from tests.e2e.test_cli import Shell, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


def ask(url: str, text: str = "pomegranate", **headers: str) -> httpx.Response:
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers)


def test_a_run_has_one_line_with_its_figures_and_its_request_names_it(shell: Shell) -> None:
    served = serving(shell)
    answer = ask(served.url, **{"X-Request-ID": "from-the-caller"}).json()
    log = served.stopped()

    (run,) = (line for line in lines(log) if line["event"] == "run")
    (request,) = (line for line in lines(log) if line["event"] == "request")
    assert run["run_id"].removeprefix("run_") == answer["id"].removeprefix("chatcmpl-")
    assert request["run_id"] == run["run_id"]
    assert run["request_id"] == request["request_id"] == "from-the-caller"
    assert (run["agent"], run["version"], run["status"]) == ("assistant", "v1", "completed")
    assert run["output_tokens"] == answer["usage"]["completion_tokens"]
    assert (run["error"], run["finish_reason"], run["level"]) == (None, "stop", "info")
    assert 0 < run["first_token_ms"] <= run["duration_ms"]
    assert "pomegranate" not in log
    assert "trace_id" not in run


async def test_with_traces_the_lines_carry_their_ids(shell: Shell) -> None:
    async with Collector() as collector:
        shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
        shell.environment["OTEL_BSP_SCHEDULE_DELAY"] = "20"
        served = await to_thread(serving, shell)
        async with httpx.AsyncClient(base_url=served.url) as client:
            body = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            await client.post("/v1/chat/completions", json=body, headers=headers)
            (invoked,) = (s for s in await collector.after(runs=1) if s.parent_id == SPAN)
        log = await to_thread(served.stopped)

    (run,) = (line for line in lines(log) if line["event"] == "run")
    (request,) = (line for line in lines(log) if line["event"] == "request")
    assert (run["trace_id"], run["span_id"]) == (TRACE, invoked.id)
    assert request["trace_id"] == TRACE
    assert "span_id" not in request


def test_a_log_file_is_put_aside_when_it_is_full(shell: Shell) -> None:
    served = serving(
        shell,
        RUNTIME_LOG_FILE="logs/runtime.log",
        RUNTIME_LOG_MAX_BYTES="1000",
        RUNTIME_LOG_BACKUPS="2",
    )
    for _ in range(12):
        ask(served.url)
    log = served.stopped()

    files = sorted((shell.folder / "logs").iterdir())
    assert [file.name for file in files] == ["runtime.log", "runtime.log.1", "runtime.log.2"]
    kept = [line for file in reversed(files) for line in lines(file.read_text())]
    names = [(line["event"], line.get("request_id")) for line in lines(log)]
    assert [(line["event"], line.get("request_id")) for line in kept] == names[-len(kept) :]
    assert all(file.stat().st_size <= 1000 for file in files)


def test_a_log_file_that_can_not_be_written_stops_the_start(shell: Shell) -> None:
    (shell.folder / "taken").write_text("")

    error = shell.refused("serve", "--port", "0", code=2, RUNTIME_LOG_FILE="taken/runtime.log")

    assert error.startswith("Error: RUNTIME_LOG_FILE: taken/runtime.log can't be written:")


def test_without_a_log_file_none_is_written(shell: Shell) -> None:
    served = serving(shell)
    ask(served.url)
    served.stopped()

    assert [path.name for path in shell.folder.rglob("*.log*")] == []
