"""The runtime in a process of its own, started as people start it."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Process:
    url: str
    pid: int
    folder: Path
    _child: asyncio.subprocess.Process

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._child.send_signal(number)

    async def ended(self, within_s: float = 20) -> int:
        """Its exit code."""
        async with asyncio.timeout(within_s):
            return await self._child.wait()

    async def printed(self, line: str) -> None:
        assert self._child.stdout
        while (await self._child.stdout.readline()).decode().strip() != line:
            pass

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def runs(self) -> list[str]:
        """The status of every recorded run, read behind the runtime's back."""
        database = sqlite3.connect(self.folder / "var" / "runtime.db")
        try:
            rows = database.execute("SELECT status FROM runs ORDER BY status")
            return [status for (status,) in rows]
        finally:
            database.close()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_mb(self) -> float:
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def until(self, path: str, status: int, within_s: float = 10) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            ends = monotonic() + within_s
            while (response := await client.get(path)).status_code != status:
                assert monotonic() < ends, response.text
                await asyncio.sleep(0.02)
            return response


@asynccontextmanager
async def process(folder: Path, port: int = 0, /, **variables: str) -> AsyncIterator[Process]:
    """Ready to serve; killed at the end if the test has not ended it."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        **variables,
    }
    with (folder / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from runtime.cli.main import main; main()"),
            *("serve", "--port", str(port)),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert child.stdout
        ready = (await child.stdout.readline()).decode()
        assert ready, (folder / "log").read_text(encoding="utf-8")
        yield Process(ready.split()[5], child.pid, folder, child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        # The transport of the pipe is closed by its garbage collector, with a warning, or here.
        child._transport.close()  # type: ignore[attr-defined]
