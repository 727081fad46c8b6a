"""Forks runtimes that have imported all they need: half a second in place of two and a half.

What is forked goes through `agent-runtime serve` as it is; only the imports are done before.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[2]
SERVE = ("serve", "--port", "0")


class Nursery:
    """The test's side."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._one = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None

    async def fork(self, folder: Path, environment: dict[str, str], output: int) -> int:
        """The process's id; both of its outputs go to the file descriptor."""
        asked = json.dumps({"folder": str(folder), "environment": environment}).encode()
        async with self._one:
            if self._child is None:
                await self._open()
            socket.send_fds(self._ours, [asked], [output])
            return await self._born.get()

    async def ended(self, pid: int) -> int:
        """Its exit code; below 0 the signal that killed it."""
        return await asyncio.shield(self._future(pid))

    def _future(self, pid: int) -> asyncio.Future[int]:
        return self._ended.setdefault(pid, asyncio.get_running_loop().create_future())

    async def __aenter__(self) -> Self:
        return self

    async def _open(self) -> None:
        handle = self._theirs.fileno()
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.nursery", str(handle)),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
            pass_fds=[handle],
        )
        self._theirs.close()
        self._listening = asyncio.create_task(self._listen())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child:
            self._listening.cancel()
            self._ours.close()  # It kills what it has forked, and ends.
            await self._child.wait()
        else:
            self._ours.close()
            self._theirs.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while told := await loop.sock_recv(self._ours, 1_000):
            what, pid, *code = map(int, told.split())
            if what:
                self._born.put_nowait(pid)
            else:
                self._future(pid).set_result(os.waitstatus_to_exitcode(code[0]))


def _tend(line: socket.socket) -> None:
    """Until the test hangs up."""
    children: set[int] = set()

    def reap(_number: int, _frame: FrameType | None) -> None:
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            children.discard(pid)
            line.send(f"0 {pid} {status}".encode())

    try:
        while _fork(line, children, reap):
            pass
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _fork(
    line: socket.socket, children: set[int], reap: Callable[[int, FrameType | None], None]
) -> bool:
    """One child as asked; False at the end of the line."""
    asked, (*handles,), _, _ = socket.recv_fds(line, 65_536, 1)
    if not asked:
        return False
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    if not (pid := os.fork()):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        line.close()
        _become(json.loads(asked), handles[0])
    os.close(handles[0])
    children.add(pid)
    line.send(f"1 {pid}".encode())
    signal.signal(signal.SIGCHLD, reap)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return True


def _become(asked: dict[str, dict[str, str]], output: int) -> None:
    from runtime.cli.main import main

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(str(asked["folder"]))
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["agent-runtime", *SERVE]
    code: object = 1
    try:
        main()
        code = 0
    except SystemExit as exit:
        code = exit.code
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    import runtime.cli.server
    import runtime.infrastructure.container
    import runtime.infrastructure.web.server  # noqa: F401 - what `serve` imports

    _tend(socket.socket(fileno=int(sys.argv[1])))
