"""Every example, unchanged, against a real server."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.server import Served, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
BIN = Path(sys.executable).parent


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    folders = [tmp_path / "templates", EXAMPLES / "own_graph", EXAMPLES / "refunds"]
    async with serving(tmp_path, template_dirs=folders) as served:
        yield served


async def printed(runtime: Served, *command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "OPENAI_BASE_URL": f"{runtime.url}/v1",
            "RUNTIME_URL": runtime.url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, problems = (text.decode() for text in await process.communicate())
    assert process.returncode == 0, out + problems
    return out


async def test_chat_answers_whole_and_streamed(runtime: Served) -> None:
    whole, streamed = (await printed(runtime, sys.executable, EXAMPLES / "chat.py")).splitlines()

    assert "Hello! My name is Ada." in whole
    assert streamed == "[demo] 1 2 3 4 5 6 7 8 9 10"


async def test_client_makes_an_agent_that_calculates(runtime: Served) -> None:
    made, calls, gets, _ = (
        await printed(runtime, sys.executable, EXAMPLES / "client.py")
    ).splitlines()

    assert made == "reckoner is published"
    assert calls.startswith("calls calculator: ")
    assert gets == "gets 8"


async def test_a_long_run_is_left_and_come_back_to(runtime: Served) -> None:
    ordered, begins, ended, output = (
        await printed(runtime, sys.executable, EXAMPLES / "long_run.py")
    ).splitlines()

    assert (ordered, ended) == ("ordered, queued", "ended: stop")
    assert output == "[demo] 1 2 3 4 5 6 7 8 9 10"
    assert output.startswith(begins.removeprefix("begins with "))


async def test_tools_are_run_by_the_caller(runtime: Served) -> None:
    asked, answered = (await printed(runtime, sys.executable, EXAMPLES / "tools.py")).splitlines()

    assert asked == 'asked for: get_weather({"city": "Oslo"})'
    assert "12 degrees and sunny in Oslo" in answered


async def test_publish_ends_with_the_first_version_published_again(runtime: Served) -> None:
    out = await printed(runtime, "sh", EXAMPLES / "publish.sh", "shop")

    trail = json.loads(out.splitlines()[-1])["data"]
    assert [each["action"] for each in reversed(trail)] == [
        "create", "submit", "approve", "create", "submit", "approve", "rollback",
    ]  # fmt: skip
    assert (await runtime.get("/v1/agents/shop"))["version_number"] == "v1"


async def test_greeter_is_picked_up_without_a_restart(runtime: Served, tmp_path: Path) -> None:
    await runtime.get("/v1/templates/greeter", status=404)

    shutil.copy(EXAMPLES / "greeter.py", tmp_path / "templates")
    await runtime.until(
        lambda found: any(each["template_id"] == "greeter" for each in found["data"]),
        "/v1/templates",
    )
    await runtime.publish(name="Greeter", template_id="greeter", template_config={"tone": "formal"})
    assert "Greet the user in a formal tone" in await runtime.ask("greeter", "Your system prompt?")


def test_greeter_has_fifteen_lines_and_is_the_readme_s() -> None:
    source = (EXAMPLES / "greeter.py").read_text()

    assert len([line for line in source.splitlines() if line.strip()]) == 15
    assert (
        f"```python file=templates/greeter.py\n{source}```"
        in (EXAMPLES.parent / "README.md").read_text()
    )


def test_notebook_is_the_page_s() -> None:
    source = (EXAMPLES / "notebook.py").read_text()

    page = (EXAMPLES.parent / "docs/memory.md").read_text()
    assert f"```python file=templates/notebook.py\n{source}```" in page


async def test_support_is_made_from_its_file(runtime: Served) -> None:
    file = EXAMPLES / "agents" / "support.yaml"
    await printed(runtime, BIN / "agent-runtime", "agents", "create", file, "--publish")

    agent = await runtime.get("/v1/agents/support")
    assert agent["status"] == "published"
    assert agent["template_config"]["languages"] == ["English", "German"]
    assert await runtime.ask("support")


async def test_your_own_graph_runs_behind_custom_agent(runtime: Served) -> None:
    file = EXAMPLES / "own_graph" / "agent.yaml"
    await printed(runtime, BIN / "agent-runtime", "agents", "create", file, "--publish")

    answer = await runtime.post(
        "/v1/chat/completions",
        {"model": "triage", "messages": [{"role": "user", "content": "A technical problem"}]},
    )
    assert answer["choices"][0]["message"]["content"].count("[demo]") == 1
    steps = [step["name"] for step in answer["metadata"]["execution_steps"]]
    assert steps == ["classify", "answer"]


async def test_a_refund_is_paid_once_a_person_has_halved_it(runtime: Served) -> None:
    file = EXAMPLES / "refunds" / "agent.yaml"
    await printed(runtime, BIN / "agent-runtime", "agents", "create", file, "--publish")

    out = await printed(runtime, sys.executable, EXAMPLES / "approve.py")
    asked, ended, paid = out.splitlines()
    assert asked == "waiting for refund({'amount': 40, 'order': 'A-17'})"
    assert ended == "completed"
    assert paid.startswith("20 euros are on their way, as run_")
