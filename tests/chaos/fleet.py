"""The processes that are killed: runtimes as people start them, and again after each death."""

import asyncio
import os
import re
import resource
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from tests.chaos.nursery import REPOSITORY, SERVE, Nursery
from tests.chaos.proxy import FaultProxy

READY = re.compile(rb"Agent runtime is ready on (\S+)")
UNCAUGHT = b"Traceback (most recent call last)"
WARNING = b'"level": "warning"'
START_WITHIN_S = 60
SETTLED_S = 1.0
"""How long after a fault a process may still do what it was about to do."""


class Replica:
    """One process after the other, in one place."""

    def __init__(
        self, nursery: Nursery, folder: Path, variables: Mapping[str, str], proxy: FaultProxy | None
    ) -> None:
        self._nursery = nursery
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            **variables,
        }
        self._reading: asyncio.Task[None] | None = None
        self._exit: asyncio.Future[int] | None = None
        self.proxy = proxy
        self.pid = 0
        self.url = ""
        """Empty while it is not ready."""
        self.stopped = False
        self.leaving = False
        """It was told to end."""
        self.log: deque[bytes] = deque(maxlen=2_000)
        self.uncaught: list[str] = []

    @property
    def alive(self) -> bool:
        return self._exit is not None and not self._exit.done()

    @property
    def serving(self) -> bool:
        return bool(self.url) and self.alive and not self.stopped

    async def start(self, *, cold: bool) -> None:
        """Ready when it returns. `cold`: with a start of its own, imports and all."""
        assert not self.alive, "it would be nobody's"
        theirs: int
        ours, theirs = os.pipe()
        try:
            if cold:
                self._exit = await self._cold(theirs)
            else:
                self.pid = await self._nursery.fork(self._folder, self._environment, theirs)
                self._exit = asyncio.ensure_future(self._nursery.ended(self.pid))
        finally:
            os.close(theirs)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(ours, ready))
        ended = self._exit
        either: list[asyncio.Future[Any]] = [ready, ended]
        await asyncio.wait(either, timeout=START_WITHIN_S, return_when="FIRST_COMPLETED")
        if ready.done():
            self.url = ready.result()
        elif not ended.done():
            raise AssertionError(f"it is not ready after {START_WITHIN_S} s\n{self.last_lines()}")

    async def _cold(self, output: int) -> asyncio.Future[int]:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from runtime.cli.main import main; main()", *SERVE),
            cwd=self._folder,
            env=self._environment,
            stdout=output,
            stderr=output,
        )
        self.pid = child.pid
        return asyncio.ensure_future(child.wait())

    async def kill(self) -> None:
        self.url = ""
        os.kill(self.pid, signal.SIGKILL)
        await self._ended()

    async def term(self, within_s: float) -> int:
        """Its exit code."""
        self.leaving = True
        os.kill(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                return await self._ended()
        except TimeoutError:
            return await self._hangs(f"it has not ended {within_s:g} s after SIGTERM")

    async def _hangs(self, why: str) -> int:
        os.kill(self.pid, signal.SIGKILL)
        await self._ended()
        raise AssertionError(f"{why}\n{self.last_lines()}")

    async def _ended(self) -> int:
        assert self._exit
        code = await asyncio.shield(self._exit)
        self.url, self.stopped, self.leaving = "", False, False
        if self._reading:
            await self._reading
        return code

    def stop(self) -> None:
        self.stopped = True
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        self.stopped = False
        os.kill(self.pid, signal.SIGCONT)

    def fill_disk(self, room: int) -> None:
        """No file of its can grow beyond `room` bytes."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (room, hard))

    def free_disk(self) -> None:
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def last_lines(self) -> str:
        return b"".join(list(self.log)[-40:]).decode(errors="replace")

    async def _read(self, pipe: int, ready: asyncio.Future[str]) -> None:
        reader = asyncio.StreamReader(limit=10_000_000)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
        )
        with (self._folder / "log").open("ab", buffering=0) as log:
            while line := await reader.readline():
                log.write(line)
                self._say(line)
                if (found := READY.search(line)) and not ready.done():
                    ready.set_result(found[1].decode())
        transport.close()

    def _say(self, line: bytes) -> None:
        self.log.append(line)
        if UNCAUGHT in line and WARNING not in line:
            self.uncaught.append(line.decode(errors="replace"))

    async def end(self) -> None:
        if self.alive:
            await self.kill()


class Fleet:
    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self.quiet_since = 0.0
        """When the last fault ended that leaves a process with something it was about to do."""
        self.disturbed = 0
        """How many such faults go on."""

    def urls(self) -> list[str]:
        return [each.url for each in self.replicas if each.serving]

    @property
    def settled(self) -> bool:
        """Whether nobody is about to do what they were about to do long ago."""
        return not self.disturbed and monotonic() > self.quiet_since + SETTLED_S

    def disturb(self) -> None:
        self.disturbed += 1

    def calm(self) -> None:
        self.disturbed -= 1
        self.quiet_since = monotonic()


@asynccontextmanager
async def fleet(
    folder: Path,
    variables: Mapping[str, str],
    databases: Sequence[tuple[str, FaultProxy | None]],
    *,
    cold: bool = False,
) -> AsyncIterator[Fleet]:
    """A replica for each of the databases' addresses, ready to serve. Not `cold`: only the first
    one imports all that it needs by itself."""
    async with AsyncExitStack() as opened:
        nursery = await opened.enter_async_context(Nursery())
        replicas = []
        for number, (url, proxy) in enumerate(databases):
            place = folder / f"replica-{number}"
            place.mkdir(parents=True)
            own = {**variables, "RUNTIME_DATABASE_URL": url}
            replica = Replica(nursery, place, own, proxy)
            opened.push_async_callback(replica.end)
            replicas.append(replica)
        for replica in replicas:
            await replica.start(cold=cold or replica is replicas[0])
            assert replica.url, replica.last_lines()
        yield Fleet(replicas)
