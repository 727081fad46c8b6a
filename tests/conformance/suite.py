"""Which clients there are, and how one of them is run."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal

from tests.conformance.environments import Environment, Node, Python
from tests.pages import ADDRESS, ROOT, blocks

LONGEST_S = 180
OpenAI3, OpenAI2, JavaScript = Python("openai3"), Python("openai2"), Node()


@dataclass(frozen=True)
class Outcome:
    kind: Literal["ok", "failed", "absent"]
    note: str = ""


Outcomes = dict[str, Outcome]


@dataclass(frozen=True)
class Client:
    name: str
    title: str
    packages: tuple[str, ...]
    environment: Environment
    script: str

    @property
    def page(self) -> Path:
        return ROOT / "docs" / "clients" / f"{self.name}.md"

    @property
    def versions(self) -> str:
        return ", ".join(
            f"`{package}` {self.environment.version(package)}" for package in self.packages
        )


CLIENTS = (
    Client("openai-python", "OpenAI Python", ("openai",), OpenAI3, "openai_client"),
    Client("openai-js", "OpenAI JS", ("openai",), JavaScript, "openai"),
    Client("langchain", "LangChain", ("langchain-openai",), OpenAI3, "langchain_client"),
    Client("ai-sdk", "AI SDK", ("ai", "@ai-sdk/openai"), JavaScript, "ai-sdk"),
    Client(
        "ai-sdk-compatible",
        "AI SDK, compatible",
        ("ai", "@ai-sdk/openai-compatible"),
        JavaScript,
        "ai-sdk-compatible",
    ),
    Client("pydantic-ai", "Pydantic AI", ("pydantic-ai-slim",), OpenAI3, "pydantic_ai_client"),
    Client("openai-agents", "Agents SDK", ("openai-agents",), OpenAI3, "agents_client"),
    Client("instructor", "Instructor", ("instructor", "openai"), OpenAI2, "instructor_client"),
    Client("litellm", "LiteLLM", ("litellm", "openai"), OpenAI2, "litellm_client"),
)
STANDARD = (
    Client("chat", "chat completions", ("langchain-tests",), OpenAI3, "langchain_standard_chat"),
    Client("responses", "Responses", ("langchain-tests",), OpenAI3, "langchain_standard_responses"),
)


@dataclass(frozen=True)
class Server:
    """Where a client is sent."""

    url: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": self.key,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched from elsewhere
        }


async def run(client: Client, server: Server, features: Sequence[str] = ()) -> Outcomes:
    """What its script tells; one that ends badly, or tells nothing, fails as "script"."""
    environment = client.environment
    script = environment.folder / f"{client.script}{environment.suffix}"
    code, told, problems = await _carried_out(
        [*environment.command(script), *features], environment.folder, server
    )
    outcomes: Outcomes = {}
    for line in told.splitlines():
        if line.startswith('{"feature"'):
            each = json.loads(line)
            outcomes[each["feature"]] = Outcome(each["outcome"], each["note"])
    if code or not outcomes:
        outcomes["script"] = Outcome("failed", (problems or told)[-4000:])
    return outcomes


async def run_page(client: Client, server: Server) -> Outcome:
    """Does what the client's page shows, where the runtime is as its first start leaves it."""
    if not client.page.exists():
        return Outcome("failed", f"there is no {client.page.name}")
    printed = ""
    shown = 0
    for block in blocks(client.page, client=client.name):
        if block.words[0] == "output":
            try:
                block.compare(printed)
            except AssertionError as error:
                return Outcome("failed", str(error))
            continue
        shown += 1
        code, printed, problems = await _carried_out(
            client.environment.page_command(),
            client.environment.folder,
            server,
            block.text.replace(ADDRESS, server.url),
        )
        if code:
            return Outcome("failed", f"{block.text}\n{printed}\n{problems[-4000:]}")
    return Outcome("ok") if shown else Outcome("failed", f"no code in {client.page.name}")


async def _carried_out(
    command: Sequence[str], folder: Path, server: Server, code: str = ""
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with TemporaryFile() as out, TemporaryFile() as problems:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=server.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=problems,
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                await process.communicate(code.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            problems.write(f"not done after {LONGEST_S} s".encode())
        said, complained = map(_read, (out, problems))
    assert process.returncode is not None
    return process.returncode, said, complained


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
