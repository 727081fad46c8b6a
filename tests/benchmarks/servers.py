"""The servers that are compared, each in its own process, and what they take of the machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, perf_counter, sleep

import httpx

from tests.benchmarks.load import REPOSITORY

TOKEN = "benchmark-token-0123456789abcdef"
ONE_NODE = "bench"
WITH_TOOLS = "bench-tools"
AGENTS = {ONE_NODE: "langgraph-simple-test", WITH_TOOLS: "react-agent"}
MODELS = tuple(f"openai/fast-{name}" for name in ("one", "two", "three"))
"""Of one provider, asked without an agent."""
START_LIMIT_S = 60
_OURS = ("RUNTIME_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "OTEL_")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Target:
    key: str
    title: str
    command: Sequence[str]
    """`{port}` stands for the port to serve on."""
    env: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/healthz"
    is_product: bool = False


class Server:
    """A target while it runs; `start_s` is the time from its start to its first 200."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.port = free_port()
        self._log = folder / f"{target.key}.log"
        command = [part.format(port=self.port) for part in target.command]
        since = perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=_environment(target.env), stdout=log, stderr=log
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.start_s = perf_counter() - since

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """User and system time of all threads so far, in steps of 10 ms."""
        # proc(5): the fields after the name, which stands in brackets and may hold blanks.
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_mb(self) -> float:
        return self._status_mb("VmRSS")

    def peak_rss_mb(self) -> float:
        return self._status_mb("VmHWM")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-4_000:]

    def _wait_until_ready(self) -> None:
        until = monotonic() + START_LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or monotonic() > until:
                raise RuntimeError(f"{self.target.title} did not start:\n{self.log_tail()}")
            sleep(0.01)

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                request = f"GET {self.target.ready_path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                connection.sendall(request.encode())
                return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def _status_mb(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) / 1_024


@contextmanager
def running(target: Target, folder: Path) -> Iterator[Server]:
    server = Server(target, folder)
    try:
        yield server
    finally:
        server.stop()


def upstream() -> Target:
    return Target(
        key="a",
        title="fake upstream, direct",
        command=[sys.executable, "-m", "tests.benchmarks.upstream", "{port}"],
    )


def forwarder(upstream_url: str) -> Target:
    return Target(
        key="b",
        title="bare Starlette forwarder",
        command=_uvicorn("tests.benchmarks.forwarder:main", "--no-access-log"),
        env=_provider(upstream_url),
    )


def minimal(upstream_url: str) -> Target:
    return Target(
        key="c",
        title="FastAPI + LangGraph + langchain-openai",
        command=_uvicorn("tests.benchmarks.minimal:main", "--no-access-log"),
        env=_provider(upstream_url),
    )


def product(upstream_url: str, data_dir: Path, *, postgres_url: str = "") -> Target:
    """As an operator runs it: credentials, database, run records and access log are on."""
    return Target(
        key="e" if postgres_url else "d",
        title="Agent runtime, PostgreSQL" if postgres_url else "Agent runtime, SQLite",
        command=[str(Path(sys.executable).with_name("agent-runtime")), "serve", "--port", "{port}"],
        env={
            **_provider(upstream_url),
            "RUNTIME_TOKEN": TOKEN,
            "RUNTIME_DATA_DIR": str(data_dir),
            "RUNTIME_DATABASE_URL": postgres_url,
        },
        ready_path="/readyz",
        is_product=True,
    )


def without_credential(target: Target) -> Target:
    """To be set up by the local admin, who may publish what they made."""
    env = {name: value for name, value in target.env.items() if name != "RUNTIME_TOKEN"}
    return replace(target, env=env)


def publish_agents(server: Server) -> None:
    """The agents that are measured, named as their slugs."""
    for name, template in AGENTS.items():
        response = httpx.post(
            f"{server.url}/v1/agents",
            json={"name": name, "template_id": template, "status": "published"},
            timeout=30,
        )
        if response.status_code != 201:
            raise RuntimeError(f"the agent could not be published: {response.text}")


def long_conversations(server: Server, count: int) -> list[str]:
    """The ids of so many, of 500 messages each."""
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
    ) as client:
        return [_long_conversation(client) for _ in range(count)]


def _long_conversation(client: httpx.Client) -> str:
    id = str(client.post("/v1/conversations", json={}).raise_for_status().json()["id"])
    for start in range(0, 500, 20):
        items = [
            {"role": ("user", "assistant")[n % 2], "content": f"Message {n}."}
            for n in range(start, start + 20)
        ]
        client.post(f"/v1/conversations/{id}/items", json={"items": items}).raise_for_status()
    return id


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _uvicorn(factory: str, *options: str) -> list[str]:
    serve = [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", "{port}"]
    return [*serve, "--log-level", "warning", *options]


def _provider(upstream_url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{upstream_url}/v1", "OPENAI_API_KEY": "upstream-key"}


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **own}
