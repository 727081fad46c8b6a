"""The browser client of docs/websocket.md as it is written there, in a browser and in Node."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import browser_or_skip, page
from tests.e2e.server import Served, serving
from tests.pages import ROOT, blocks
from tests.upstream import FakeUpstream

TOKEN = "correct-horse-battery"
DONE = "对话完成"
HEARD = f"""
new Promise((resolve, reject) => {{
    const heard = [];
    const log = console.log;
    console.log = (text) => {{
        heard.push(text);
        if (text === '{DONE}') resolve(heard);
    }};
    {{{{
        CLIENT
        ws.addEventListener('error', () => reject(new Error('refused')));
        ws.addEventListener('close', () => reject(new Error('closed')));
    }}}}
}})
""".replace("{{{{", "{").replace("}}}}", "}")
"""What the client logs, to the end of its conversation."""


def client(url: str) -> str:
    [block] = blocks(ROOT / "docs/websocket.md", client="browser")
    return block.text.replace("localhost:8000", f"localhost:{port(url)}")


def port(url: str) -> str:
    return url.rpartition(":")[2]


@pytest.fixture(params=["demo", "openai"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    async with FakeUpstream() as upstream:
        openai = {"openai_base_url": upstream.base_url, "openai_api_key": "sk-test"}
        provider: dict[str, Any] = openai if request.param == "openai" else {}
        async with serving(tmp_path, **provider) as runtime:
            yield runtime


def answers(heard: list[str]) -> bool:
    """Whether a greeting was answered, by the demo model or by the fake provider's echo."""
    said = "".join(heard[:-1])
    return heard[-1] == DONE and len(heard) > 2 and ("你好" in said or "演示" in said)


async def test_the_client_works_in_a_browser(served: Served, tmp_path: Path) -> None:
    async with page(f"http://localhost:{port(served.url)}/docs", tmp_path / "chromium") as opened:
        heard = await opened.evaluate(HEARD.replace("CLIENT", client(served.url)))

    assert answers(heard)
    assert (await served.get("/v1/runs"))["data"][0]["owner_id"] == "user123"


async def test_a_page_of_another_origin_is_refused(served: Served, tmp_path: Path) -> None:
    browser_or_skip()
    async with serving(tmp_path / "other") as other:
        address = f"http://localhost:{port(other.url)}/docs"
        async with page(address, tmp_path / "chromium") as opened:
            script = HEARD.replace("CLIENT", client(served.url))
            outcome = await opened.evaluate(script + ".catch((error) => error.message)")

    assert outcome in ("refused", "closed")
    assert (await served.get("/v1/runs"))["data"] == []


async def test_a_browser_shows_its_credential_in_the_first_message(tmp_path: Path) -> None:
    script = """
    new Promise((resolve, reject) => {
        const ws = new WebSocket('ws://localhost:PORT/api/streaming/ws/ann');
        const heard = [];
        ws.onmessage = (event) => {
            const {message_type} = JSON.parse(event.data);
            heard.push(message_type);
            if (message_type === 'auth_required')
                ws.send(JSON.stringify({message_type: 'auth', data: {token: 'TOKEN'}}));
            if (message_type === 'connected') resolve(heard);
        };
        ws.onclose = reject;
    })"""
    async with serving(tmp_path, token=TOKEN) as guarded:
        number = port(guarded.url)
        async with page(f"http://localhost:{number}/docs", tmp_path / "chromium") as opened:
            heard = await opened.evaluate(script.replace("PORT", number).replace("TOKEN", TOKEN))
    assert heard == ["auth_required", "connected"]


async def test_the_client_works_in_node(served: Served) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node in the PATH")
    script = f"""
    if (typeof WebSocket === 'undefined') process.exit(42);
    const say = console.log;
    const whole = {HEARD.replace("CLIENT", client(served.url))};
    whole.then((heard) => {{ say(JSON.stringify(heard)); process.exit(0); }});
    """
    flags = ["--experimental-websocket"] if await _knows(node, "--experimental-websocket") else []
    process = await asyncio.create_subprocess_exec(
        *(node, *flags, "-e", script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, problems = await process.communicate()
    if process.returncode == 42:
        pytest.skip("this Node has no WebSocket: 20.10 or newer is needed")
    assert process.returncode == 0, problems.decode()
    assert answers(json.loads(out))


async def _knows(node: str, flag: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *(node, flag, "-e", ""), stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0
