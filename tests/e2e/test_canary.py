"""Canary secrets, put through every route and every fault, are then found nowhere."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

import runtime
from tests.secret_template import fingerprints
from tests.upstream import Exchange, FakeUpstream, answers, faults
from tests.upstream.wire import Behaviour

Json = dict[str, Any]

TOKEN = "canary-runtime-token-4f1d7a"
API_KEY = "canary-openai-key-9b2e6c"
SECRET_KEY = "canary-secret-key-1c8d3f"
FIELD = 'canary-"config"-secret-7e5a0b'
PASSWORD = "canary-database-password-2d9f4e"
PROVIDER_KEY = "canary-provider-key-6a3c8f"
HOOK_KEY = base64.b64encode(b"canary-of-a-webhook-8e2d1b").decode()
CANARIES = (TOKEN, API_KEY, SECRET_KEY, FIELD, PASSWORD, PROVIDER_KEY, HOOK_KEY)

COMMAND = [sys.executable, "-c", "from runtime.cli.main import main; main()"]
LEAKY = """
import logging
from hashlib import sha256

from pydantic import SecretStr

from runtime.domain.errors import ExecutionFailed
from runtime.domain.events.runs import TextDelta
from runtime.domain.services.models import ModelFinished
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.config import StrictConfig

logger = logging.getLogger(__name__)


class Leaky(BaseAgentTemplate):
    template_id = "leaky"
    template_name = "Leaky"

    class Config(StrictConfig):
        api_key: SecretStr

    async def stream_execute(self, input):
        key = self.config.api_key.get_secret_value()
        match input.messages[-1].text:
            case "say":
                yield TextDelta(sha256(key.encode()).hexdigest())
            case "log":
                logger.warning("the key is %s", key, extra={"key": key})
                logger.debug(repr(vars(self)) + repr({"key": key}))
            case "raise":
                raise RuntimeError(f"no good: {key}")
            case "refuse":
                raise ExecutionFailed(f"no good: {key}", details={"key": [key]})
            case _:
                async for event in self.call_model(input.messages, input):
                    if not isinstance(event, ModelFinished):
                        yield event
"""


def spellings(canary: str) -> set[bytes]:
    """However it could have been written down."""
    plain = {canary, json.dumps(canary)[1:-1], repr(canary)[1:-1], quote(canary, safe="")}
    encoded = base64.b64encode(canary.encode()).rstrip(b"=")
    return {each.encode() for each in plain} | {encoded, canary.encode().hex().encode()}


SPELLINGS = {spelt: canary for canary in CANARIES for spelt in spellings(canary)}
_ANY = re.compile(b"|".join(re.escape(each) for each in SPELLINGS))


def clean(what: str, content: bytes | str) -> None:
    raw = content.encode() if isinstance(content, str) else content
    if found := _ANY.search(raw):
        around = raw[max(0, found.start() - 200) : found.end() + 100]
        raise AssertionError(f"{SPELLINGS[found.group()]} is in {what}: …{around!r}…")


@dataclass
class Process:
    folder: Path
    upstream: FakeUpstream
    database: str
    http: httpx.AsyncClient
    count: int = 0
    seen: list[int] = field(default_factory=list)

    @property
    def known(self) -> list[str]:
        """What the runtime itself was given, and so hides even from who sends it."""
        known = [each for each in CANARIES if each not in (PROVIDER_KEY, HOOK_KEY)]
        return [each for each in known if each != PASSWORD or each in self.database]

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        response = await self.http.request(method, path, **options)
        self.seen.append(response.status_code)
        clean(f"the answer to {method} {path[:60]}", response.content)
        clean(f"the headers of {method} {path[:60]}", str(response.headers.raw))
        return response

    async def agent(self) -> str:
        """The id of a fresh agent that keeps the canary."""
        self.count += 1
        body = {
            "name": f"Leaky {self.count}",
            "template_id": "leaky",
            "template_config": {"api_key": FIELD},
            "status": "published",
        }
        response = await self.send("POST", "/v1/agents", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def ask(self, model: str, text: str, *, stream: bool = False) -> httpx.Response:
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        }
        return await self.send("POST", "/v1/chat/completions", json=body)


def environment(folder: Path, database: str, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(runtime.__file__).parents[1]),
        "RUNTIME_TOKEN": TOKEN,
        "OPENAI_API_KEY": API_KEY,
        "RUNTIME_SECRET_KEY": SECRET_KEY,
        "RUNTIME_DATABASE_URL": database,
        "RUNTIME_DATA_DIR": str(folder / "var"),
        "RUNTIME_TEMPLATE_DIRS": str(folder / "templates"),
        "RUNTIME_LOG_LEVEL": "DEBUG",
        "RUNTIME_FIRST_TOKEN_TIMEOUT_S": "0.3",
        "RUNTIME_IDLE_TIMEOUT_S": "0.3",
        "RUNTIME_ANSWER_TIMEOUT_S": "0.5",
        "RUNTIME_RUN_TIMEOUT_S": "3",
        "RUNTIME_MODEL_ATTEMPTS": "1",
        **more,
    }


async def run(folder: Path, *arguments: str, **variables: str) -> tuple[int | None, str]:
    """Exit code and everything that a command printed."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=folder,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runtime.db'}"
    url = make_url(str(request.getfixturevalue("fresh_postgres_url")))
    # Where the server asks for no password, any will do.
    return url.set(password=url.password or PASSWORD).render_as_string(hide_password=False)


@asynccontextmanager
async def process_on(folder: Path, database: str) -> AsyncIterator[Process]:
    (folder / "templates").mkdir()
    (folder / "templates" / "leaky.py").write_text(LEAKY)
    async with FakeUpstream() as upstream:
        variables = environment(folder, database, OPENAI_BASE_URL=upstream.base_url)
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                "serve",
                "--port",
                "0",
                cwd=folder,
                env=variables,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout
        try:
            ready = (await process.stdout.readline()).decode()
            assert ready, (folder / "log").read_text()
            async with httpx.AsyncClient(
                base_url=ready.split()[5], headers={"X-Runtime-Token": TOKEN}, timeout=30
            ) as http:
                yield Process(folder, upstream, database, http)
        finally:
            if process.returncode is None:
                process.terminate()
            rest, _ = await process.communicate()
            clean("stdout", rest)


async def test_a_canary_is_found_nowhere(tmp_path: Path, database: str) -> None:
    async with process_on(tmp_path, database) as process:
        agent = await process.agent()
        said = await process.ask(agent, "say")
        assert fingerprints(FIELD) in said.text
        await through_every_route(process)
        await through_every_fault(process, agent)
        await through_the_registry(process)
        await through_the_webhooks(process)
        await through_a_template_that_leaks(process, agent)
        await through_the_command_line(process, agent)
        calls = [each for each in process.upstream.requests if "webhook-id" not in each.headers]
        sent = {request.headers["authorization"] for request in calls}
        assert sent - {f"Bearer {PROVIDER_KEY}"} == {f"Bearer {API_KEY}"}
        look_into(tmp_path)
        if database.startswith("postgresql"):
            clean("the database", everything_in(database))
    look_into(tmp_path)
    assert b"***" in (tmp_path / "log").read_bytes()
    assert set(process.seen) >= {200, 201, 400, 404, 422, 429, 500, 502, 504}


async def test_a_start_that_fails_shows_no_canary(tmp_path: Path) -> None:
    nowhere = f"postgresql://ann:{PASSWORD}@127.0.0.1:1/x"
    for arguments in (("serve", "--port", "0"), ("db", "upgrade"), ("secrets", "rotate")):
        code, out = await run(tmp_path, *arguments, **environment(tmp_path, nowhere))
        assert code == 1
        clean(str(arguments), out)


async def test_settings_are_shown_without_canaries(tmp_path: Path) -> None:
    variables = environment(tmp_path, f"postgresql://ann:{PASSWORD}@127.0.0.1:1/x")
    code, out = await run(tmp_path, "config", **variables)
    assert (code, "***" in out) == (0, True)
    clean("config", out)


async def through_every_route(process: Process) -> None:
    document = (await process.send("GET", "/openapi.json")).json()
    routes = list(routes_of(document))
    assert len(routes) > 25
    for method, path, operation in routes:
        names = re.findall(r"\{(\w+)\}", path)
        known = await ids(process, path) if names else {}
        for value in (*process.known, None):
            filled = path
            for name in names:
                with_ = known.get(name, "missing") if value is None else value
                filled = filled.replace(f"{{{name}}}", quote(with_, safe=""))
            queries = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            query = dict.fromkeys(queries, value) if value else {}
            headers = {"If-Match": f'"{value}"'} if value else {}
            headers["Content-Type"] = "application/json"
            for body in bodies(operation, document, value):
                await process.send(method, filled, params=query, headers=headers, content=body)


def routes_of(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method in ("get", "put", "patch", "post", "delete"):
            if method in item:
                yield method.upper(), path, item[method]


async def ids(process: Process, path: str) -> dict[str, str]:
    known = {"template_id": "leaky", "version": "1.0.0"}
    if "runs" in path:
        runs = (await process.send("GET", "/v1/runs")).json()["data"]
        return {**known, "id": runs[0]["id"], "run_id": runs[0]["id"]}
    agent = await process.agent()
    return {**known, "id": agent, "agent_id": agent, "model": agent}


def bodies(operation: Json, document: Json, canary: str | None) -> Iterator[bytes | None]:
    """What may be sent: nothing, the example, and a canary where it is of the wrong type."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        yield None
        return
    schema = content["schema"]
    reference = schema.get("$ref") or next(
        (each["$ref"] for each in schema.get("anyOf", ()) if "$ref" in each), ""
    )
    declared = document["components"]["schemas"].get(reference.rsplit("/", 1)[-1], {})
    if canary is None:
        example: Json = next(iter(declared.get("examples", [{}])), {})
        yield json.dumps(example).encode()
        return
    yield canary.encode()
    yield json.dumps(canary).encode()
    yield json.dumps({canary: canary}).encode()
    if "template_config" in declared.get("properties", {}):
        config = {"api_key": [canary], canary: canary}
        filled = {"name": "Other", "template_id": "leaky", "template_config": config}
        yield json.dumps(filled).encode()
    for name in declared.get("properties", {}):
        yield json.dumps({name: [[{canary: canary}]]}).encode()


def leaks(status: int) -> Behaviour:
    """An error that repeats what it was sent, as careless gateways do."""

    async def answer(exchange: Exchange) -> None:
        said = exchange.request.headers["authorization"]
        error = dict.fromkeys(("message", "type", "code", "param", "detail"), f"No: {said}")
        headers = {"Location": f"http://127.0.0.1:9/{quote(said)}", "X-Said": said}
        await exchange.respond(status, json.dumps({"error": error}).encode(), headers)

    return answer


def leaks_in_stream(*, as_garbage: bool) -> Behaviour:
    async def answer(exchange: Exchange) -> None:
        said = exchange.request.headers["authorization"]
        exchange.start()
        await exchange.write(answers.event(answers.chunk({"content": "One "})))
        if as_garbage:
            await exchange.write(f"data: {{{said}\n\n".encode())
        else:
            error = dict.fromkeys(("message", "type", "code", "param"), said)
            await exchange.write(answers.event({"error": error}))
        await exchange.end()

    return answer


async def through_every_fault(process: Process, agent: str) -> None:
    for stream in (False, True):
        for name in (*faults.BY_NAME, "400", "401", "403", "404", "413", "422", "500", "503"):
            await process.ask(agent, f"fault:{name}", stream=stream)
        for status in (307, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503):
            process.upstream.script(leaks(status))
            await process.ask(agent, "Hello", stream=stream)
        for as_garbage in (False, True):
            process.upstream.script(leaks_in_stream(as_garbage=as_garbage))
            await process.ask(agent, "Hello", stream=stream)


async def through_the_registry(process: Process) -> None:
    """Its key is no setting: nobody but its provider is ever told."""
    body = {"id": "kept", "type": "openai", "base_url": process.upstream.base_url}
    key = {"api_key": PROVIDER_KEY}
    made = await process.send("POST", "/v1/providers", json={**body, **key})
    assert made.status_code == 201, made.text
    same = {"model_id": "kept", "provider": "openai", "provider_id": "kept"}
    for method, path, sent in (
        ("POST", "/v1/providers", {**body, **key}),
        ("POST", "/v1/providers", {**body, "api_key": [PROVIDER_KEY]}),
        ("POST", "/v1/providers", {**body, **key, "api_key_env": "X_API_KEY"}),
        ("PATCH", "/v1/providers/kept", {"type": "anthropic"}),
        ("PATCH", "/v1/providers/kept", {"base_url": "http://10.0.0.1", **key}),
        ("PATCH", "/v1/providers/kept", {"default_model": "x", **key}),
        ("POST", "/api/models", {**same, **key}),
        ("POST", "/api/streaming/providers/register", {**same, "provider_type": "x", **key}),
        ("POST", "/v1/providers/kept/test", {}),
    ):
        await process.send(method, path, json=sent)
    for status in (200, 401, 500):
        process.upstream.script(leaks(status))
        await process.send("POST", "/v1/providers/kept/test")
    for path in ("", "/kept", "/health?probe=true", "/kept/models"):
        await process.send("GET", f"/v1/providers{path}")
    for path in ("/api/models", "/api/models/kept", "/api/streaming/providers"):
        await process.send("GET", path)


async def through_the_webhooks(process: Process) -> None:
    """What signs them is sent to nobody."""
    secret = {"secret": f"whsec_{HOOK_KEY}"}
    body = {"url": process.upstream.base_url, "events": ["run.waiting"]}
    made = await process.send("POST", "/v1/webhooks", json={**body, **secret})
    assert made.status_code == 201, made.text
    path = f"/v1/webhooks/{made.json()['id']}"
    for wrong in (secret["secret"] + "!", [HOOK_KEY], {HOOK_KEY: 1}, HOOK_KEY):
        await process.send("POST", "/v1/webhooks", json={**body, "secret": wrong})
        await process.send("POST", f"{path}/rotate_secret", json={"secret": wrong})
    await process.send("POST", f"{path}/rotate_secret", json=secret)
    for status in (200, 302, 401, 500):
        process.upstream.outage = faults.status(status)
        await process.send("POST", f"{path}/test")
    process.upstream.outage = None
    for each in ("", path.removeprefix("/v1/webhooks"), f"{path[12:]}/deliveries"):
        await process.send("GET", f"/v1/webhooks{each}")


async def through_a_template_that_leaks(process: Process, agent: str) -> None:
    for text in ("log", "raise", "refuse"):
        for stream in (False, True):
            await process.ask(agent, text, stream=stream)


async def through_the_command_line(process: Process, agent: str) -> None:
    variables = environment(
        process.folder,
        process.database,
        RUNTIME_URL=str(process.http.base_url),
    )
    for arguments in (
        ("agents", "show", agent),
        ("agents", "list"),
        ("agents", "show", TOKEN),
        ("agents", "chat", agent, "raise"),
        ("templates", "show", "leaky"),
        ("providers", "show", "kept"),
        ("providers", "list"),
    ):
        _, out = await run(process.folder, *arguments, **variables)
        clean(str(arguments[:2]), out)
    _, out = await run(process.folder, "secrets", "rotate", **variables)
    assert re.fullmatch(r"Encrypted again: 0. Already under this key: [1-9]\d*.\n", out)


def look_into(folder: Path) -> None:
    """Every file that the runtime wrote: database, write-ahead log, log, data folder."""
    looked_at = [
        path for path in folder.rglob("*") if path.is_file() and "templates" not in path.parts
    ]
    assert folder / "log" in looked_at
    for path in looked_at:
        clean(path.name, path.read_bytes())


def everything_in(database: str) -> str:
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        selects = [sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)) for (table,) in tables]
        return str([connection.execute(select).fetchall() for select in selects])
