"""The clients pin versions of each other's dependencies, so they live beside the runtime."""

import asyncio
import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.pages import ROOT

CLIENTS = Path(__file__).parent / "clients"
JS = Path(__file__).parent / "js"


class Unavailable(Exception):
    """What this machine lacks to run a client."""


class Environment(Protocol):
    @property
    def suffix(self) -> str:
        """Of its scripts' names."""

    @property
    def folder(self) -> Path:
        """Where its scripts are, and run."""

    async def make(self) -> None:
        """Raises Unavailable."""

    def command(self, script: Path) -> list[str]: ...

    def page_command(self) -> list[str]:
        """Runs the code on its standard input."""

    def version(self, package: str) -> str:
        """As locked."""


@dataclass(frozen=True)
class Python:
    name: str
    suffix: str = ".py"
    folder: Path = CLIENTS

    @property
    def _lock(self) -> Path:
        return ROOT / f"requirements/conformance-{self.name}.txt"

    @property
    def _home(self) -> Path:
        return ROOT / ".venv-conformance" / self.name

    @property
    def _python(self) -> str:
        return str(self._home / "bin" / "python")

    async def make(self) -> None:
        made = self._home / ".made"
        if _is_made(made, self._lock):
            return
        uv = str(Path(sys.executable).with_name("uv"))
        await _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(self._home))
        wanted = ("install", "--quiet", "--require-hashes", "-r", str(self._lock))
        try:
            await _run(uv, "pip", *wanted, "--python", self._python)
        except Unavailable:  # uv finds no index on some networks where pip does
            await _run(sys.executable, "-m", "pip", "--python", self._python, *wanted)
        made.write_text(_digest(self._lock))

    def command(self, script: Path) -> list[str]:
        return [self._python, "-W", "ignore", str(script)]

    def page_command(self) -> list[str]:
        return [self._python, "-W", "ignore", "-"]

    def version(self, package: str) -> str:
        found = re.search(rf"^{re.escape(package)}==([^\s;\\]+)", self._lock.read_text(), re.M)
        assert found, f"{package} is not in {self._lock.name}"
        return found[1]


@dataclass(frozen=True)
class Node:
    suffix: str = ".mjs"
    folder: Path = JS

    async def make(self) -> None:
        lock, made = JS / "package-lock.json", JS / "node_modules" / ".made"
        if not shutil.which("node") or not shutil.which("npm"):
            raise Unavailable("node and npm are not installed")
        if not _is_made(made, lock):
            await _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=JS)
            made.write_text(_digest(lock))

    def command(self, script: Path) -> list[str]:
        return ["node", "--no-warnings", str(script)]

    def page_command(self) -> list[str]:
        return ["node", "--no-warnings", "--input-type=module", "-"]

    def version(self, package: str) -> str:
        lock = json.loads((JS / "package-lock.json").read_text())
        return str(lock["packages"][f"node_modules/{package}"]["version"])


def _is_made(stamp: Path, lock: Path) -> bool:
    return stamp.is_file() and stamp.read_text() == _digest(lock)


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


async def _run(*command: str, folder: Path = ROOT) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    said, _ = await process.communicate()
    if process.returncode:
        raise Unavailable(f"`{' '.join(command)}` failed:\n{said.decode()[-2000:]}")
