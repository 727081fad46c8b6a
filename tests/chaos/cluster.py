"""A PostgreSQL of one's own, that may be stopped and crashed."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

SETTINGS = {
    "fsync": "off",  # what is killed here is processes, not the machine
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
}


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are."""
    found = shutil.which("postgres")
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    path = Path(found) if found else newest
    return path.parent if path else None


def _account() -> str | None:
    """PostgreSQL does not run as root."""
    return "postgres" if os.getuid() == 0 else None


class Cluster:
    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs, self._folder = programs, folder
        self._child: asyncio.subprocess.Process | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        subprocess.run(
            [self._programs / "initdb", "-D", self._folder, "-U", "postgres", "-A", "trust", "-N"],
            check=True,
            capture_output=True,
            user=_account(),
            cwd="/",
        )

    async def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        self._child = await asyncio.create_subprocess_exec(
            *(str(self._programs / "postgres"), "-D", str(self._folder)),
            *(f"-cport={self.port}", *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=_account(),
            cwd="/",
        )
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(self._answers):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def stop(self, *, crash: bool) -> None:
        """As an operator does it, or as the kernel does it when memory runs out."""
        assert self._child
        self._child.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        async with asyncio.timeout(30):
            await self._child.wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    async def end(self) -> None:
        if self._child and self._child.returncode is None:
            await self.stop(crash=True)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster | None]:
    """None where there are no programs to make one with."""
    programs = binaries()
    if programs is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
    if account := _account():
        shutil.chown(folder, account)
    made = Cluster(programs, folder / "data", _free_port())
    try:
        await asyncio.to_thread(made.make)
        await made.start()
        yield made
    finally:
        await made.end()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
