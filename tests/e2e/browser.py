"""A real browser: Chromium without a window, told what to do over its DevTools protocol.

`TEST_CHROMIUM` names another one than those in the PATH.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers; they load nothing but our own pages
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


def browser_or_skip() -> str:
    named = [os.environ.get("TEST_CHROMIUM", ""), *map(shutil.which, NAMES)]
    found = next(filter(None, named), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is in the PATH")
    return found


class Page:
    def __init__(self, devtools: ClientConnection, session: str) -> None:
        self._devtools = devtools
        self._session = session

    async def evaluate(self, script: str) -> Any:  # noqa: ANN401 - whatever it comes to
        """What its promise is fulfilled with."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = await command(self._devtools, "Runtime.evaluate", asked, self._session)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def reload(self) -> None:
        """As who presses F5: scripts, connections and all they knew are gone."""
        await command(self._devtools, "Page.reload", {}, self._session)
        await _loaded(self._devtools)


async def command(
    devtools: ClientConnection, method: str, params: dict[str, Any], session: str | None = None
) -> dict[str, Any]:
    asked = {"id": 1, "method": method, "params": params}
    await devtools.send(json.dumps(asked | ({"sessionId": session} if session else {})))
    async with asyncio.timeout(30):
        while True:
            heard = json.loads(await devtools.recv())
            if heard.get("id") == 1:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result


@asynccontextmanager
async def page(url: str, folder: Path) -> AsyncIterator[Page]:
    """A page that is loaded."""
    chromium = await asyncio.create_subprocess_exec(
        *(browser_or_skip(), *SWITCHES, f"--user-data-dir={folder}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    try:
        async with connect(await _address(chromium), max_size=None, proxy=None) as devtools:
            target = await command(devtools, "Target.createTarget", {"url": "about:blank"})
            attached = await command(devtools, "Target.attachToTarget", {**target, "flatten": True})
            session = attached["sessionId"]
            await command(devtools, "Page.enable", {}, session)
            await command(devtools, "Page.navigate", {"url": url}, session)
            await _loaded(devtools)
            yield Page(devtools, session)
    finally:
        if chromium.returncode is None:
            chromium.kill()
        await chromium.wait()
        chromium._transport.close()  # type: ignore[attr-defined]


async def _address(chromium: asyncio.subprocess.Process) -> str:
    assert chromium.stderr
    async with asyncio.timeout(60):
        while line := (await chromium.stderr.readline()).decode():
            if "listening on " in line:
                return line.partition("listening on ")[2].strip()
    raise AssertionError("the browser did not start")


async def _loaded(devtools: ClientConnection) -> None:
    async with asyncio.timeout(30):
        while json.loads(await devtools.recv()).get("method") != "Page.loadEventFired":
            pass
