"""Who gets what: every route of the OpenAPI document, for every kind of caller, with every id.

A refusal must not tell a foreign id from an unknown one, change nothing, and send no stream.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio

from runtime.domain.value_objects.ids import uuid7_hex
from runtime.infrastructure.repositories.base import metadata
from runtime.infrastructure.repositories.durable_runs import workers
from runtime.tools import tool
from tests.e2e.server import Json, Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "a-secret-that-only-the-tests-know-of"
CALLERS: Mapping[str, tuple[str, str, str]] = {
    "viewer": ("eve", "viewer", "default"),
    "other": ("ben", "editor", "default"),
    "owner": ("ann", "editor", "default"),
    "reviewer": ("rob", "reviewer", "default"),
    "admin": ("ada", "admin", "default"),
    "stranger": ("ann", "admin", "elsewhere"),
}
"""As (user, role, project). The stranger shares the owner's name, in another project."""
PER_REQUEST = (
    "x-request-id",
    "openai-processing-ms",
    "date",
    "content-length",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
NOBODY = "127.0.0.1:9"
"""Where nothing listens."""
SAYING: Json = {"role": "user", "content": "Hi"}
RUN_OF: dict[str, str] = {}
"""The run that waits for an approval."""
ITEM_OF: dict[str, str] = {}
"""The item in a conversation."""
CHECKPOINT_OF: dict[str, str] = {}
DELIVERY_OF: dict[str, str] = {}
"""What a webhook was told."""
numbers = count()


@tool(needs_approval=True)
def transfer(to: str) -> None:
    """Transfer money."""


@tool(needs_approval="reviewer")
def erase(to: str) -> None:
    """Erase somebody."""


Rows = Mapping[str, list[tuple[Any, ...]]]


@dataclass
class World:
    served: Served
    callers: Mapping[str, httpx.AsyncClient]
    anonymous: httpx.AsyncClient
    database: sqlite3.Connection
    """Reads, and sees when somebody else has written."""
    _seen: tuple[int, Rows] = (-1, {})

    async def thing(self, kind: str) -> str:
        """The id of something new of the owner's."""
        makers: dict[str, Callable[[], Any]] = {
            "none": self._nothing,
            "draft": lambda: self._agent("draft"),
            "submitted": lambda: self._agent("submitted"),
            "published": lambda: self._agent("published"),
            "beta": lambda: self._agent("published", version_type="beta"),
            "superseded": self._superseded,
            "line": self._line,
            "named draft": self._named_draft,
            "session": self._session,
            "run": self._run,
            "completion": self._completion,
            "run's agent": self._agent_that_ran,
            "key": self._key,
            "conversation": self._conversation,
            "response": self._response,
            "background response": lambda: self._response(background=True),
            "limited key": self._limited_key,
            "limited project": self._limited_project,
            "line that ran": self._line_that_ran,
            "price": self._price,
            "provider": self._provider,
            "waiting run": lambda: self._waiting("transfer"),
            "run for review": lambda: self._waiting("erase"),
            "approval": lambda: self._approval("transfer"),
            "review": lambda: self._approval("erase"),
            "schedule": self._schedule,
            "paused schedule": lambda: self._schedule(enabled=False),
            "memory": self._memory,
            "webhook": self._webhook,
            "webhook that was told": self._told,
            "run with steps": self._run_with_steps,
            "cancelled run": self._cancelled_run,
            "shared memory": lambda: self._memory(scope="shared"),
        }
        made: str = await makers[kind]()
        return made

    async def rows(self) -> Rows:
        """Everything that is stored, once nothing goes on."""
        await self.served.container.recorder().flush()
        going_on = "SELECT 1 FROM durable_runs WHERE status IN ('queued', 'running')"
        for _ in range(500):
            if self.database.execute(going_on).fetchone() is None:
                break
            await asyncio.sleep(0.02)
        # Another number once anybody else has written: what is read before is read again then.
        (version,) = self.database.execute("PRAGMA data_version").fetchone()
        if version != self._seen[0]:
            self._seen = version, self._everything()
        return self._seen[1]

    def _everything(self) -> Rows:
        names = [
            table.name for table in metadata.sorted_tables if table is not workers
        ]  # They beat.
        return {
            name: sorted(self.database.execute(f'SELECT * FROM "{name}"'), key=str)
            for name in names
        }

    async def _as(self, caller: str, method: str, path: str, body: Json | None = None) -> Json:
        response = await self.callers[caller].request(method, path, json=body)
        assert response.is_success, response.text
        found: Json = response.json()
        return found

    async def _nothing(self) -> str:
        return ""

    async def _agent(self, status: str, **fields: object) -> str:
        return str((await self._version(status, **fields))["id"])

    async def _version(self, status: str, **fields: object) -> Json:
        body = {"name": f"Bot {next(numbers)}", "template_id": "langgraph-simple-test", **fields}
        made = await self._as("owner", "POST", "/v1/agents", body)
        path = f"/v1/agents/{made['id']}"
        if status in ("submitted", "published"):
            await self._as("owner", "POST", f"{path}/submit")
        if status == "published":
            await self._as("reviewer", "POST", f"{path}/approve")
        return made

    async def _superseded(self) -> str:
        first = await self._version("published")
        await self._version("published", agent_line_id=first["agent_line_id"])
        return str(first["id"])

    async def _line(self) -> str:
        return str((await self._version("draft"))["agent_line_id"])

    async def _named_draft(self) -> str:
        return f"{(await self._version('draft'))['slug']}@v1"

    async def _ran(self) -> tuple[Json, Json]:
        agent = await self._version("draft")
        call = {**asking(agent["id"]), "metadata": {"session_id": f"s-{next(numbers)}"}}
        return agent, await self._as("owner", "POST", "/v1/chat/completions", call)

    async def _completion(self) -> str:
        agent = await self._version("draft")
        call = asking(agent["id"], store=True)
        return str((await self._as("owner", "POST", "/v1/chat/completions", call))["id"])

    async def _run(self) -> str:
        return str((await self._ran())[1]["metadata"]["run_id"])

    async def _agent_that_ran(self) -> str:
        return str((await self._ran())[0]["id"])

    async def _session(self) -> str:
        run = await self._as("owner", "GET", f"/v1/runs/{await self._run()}")
        return str(run["session_id"])

    async def _conversation(self) -> str:
        made = await self._as("owner", "POST", "/v1/conversations", {})
        path = f"/v1/conversations/{made['id']}/items"
        added = await self._as("owner", "POST", path, {"items": [SAYING]})
        ITEM_OF[made["id"]] = added["first_id"]
        return str(made["id"])

    async def _response(self, **fields: object) -> str:
        asked = {**responding("assistant"), **fields}
        made = await self._as("owner", "POST", "/v1/responses", asked)
        while made["status"] == "in_progress":
            made = await self._as("owner", "GET", f"/v1/responses/{made['id']}")
        return str(made["id"])

    async def _key(self) -> str:
        return str((await self._as("owner", "POST", "/v1/keys", {"name": "CI"}))["id"])

    async def _limited_key(self) -> str:
        id = await self._key()
        await self._as("admin", "PUT", f"/v1/limits/key/{id}", MANY)
        return id

    async def _limited_project(self) -> str:
        await self._as("admin", "PUT", "/v1/limits/project/default", MANY)
        return ""

    async def _line_that_ran(self) -> str:
        agent = await self._as("owner", "GET", f"/v1/agents/{await self._agent_that_ran()}")
        return str(agent["agent_line_id"])

    async def _price(self) -> str:
        model = f"made-up/model-{next(numbers)}"
        await self._as("admin", "PUT", f"/v1/prices/{model}", PRICE)
        return model

    async def _webhook(self, **fields: object) -> str:
        body = {**a_webhook(), "events": ["run.waiting"], **fields}
        return str((await self._as("owner", "POST", "/v1/webhooks", body))["id"])

    async def _told(self) -> str:
        id = await self._webhook(events=["agent.submitted"])
        await self._agent("submitted")
        page = await self._as("owner", "GET", f"/v1/webhooks/{id}/deliveries")
        DELIVERY_OF[id] = page["data"][0]["id"]
        return id

    async def _memory(self, **fields: str) -> str:
        body = {"text": f"Fact {next(numbers)}", **fields}
        return str((await self._as("owner", "POST", "/v1/memories", body))["id"])

    async def _run_with_steps(self) -> str:
        agent = await self._version("published", template_id="react-agent")
        run = await self._as("owner", "POST", "/v1/runs", responding(agent["id"]))
        path = f"/v1/runs/{run['id']}"
        async with asyncio.timeout(10):
            while run["status"] != "completed":
                run = await self._as("owner", "GET", path)
        steps = await self._as("owner", "GET", f"{path}/checkpoints")
        CHECKPOINT_OF[run["id"]] = steps["data"][0]["id"]
        return str(run["id"])

    async def _cancelled_run(self) -> str:
        later = responding("assistant", not_before="2190-01-01T00:00:00Z")
        run = await self._as("owner", "POST", "/v1/runs", later)
        await self._as("owner", "POST", f"/v1/runs/{run['id']}/cancel")
        return str(run["id"])

    async def _schedule(self, **fields: object) -> str:
        body = scheduling("assistant", **fields)
        return str((await self._as("owner", "POST", "/v1/schedules", body))["id"])

    async def _waiting(self, tool: str) -> str:
        """A run that waits for somebody to agree to a call of the tool."""
        config = {"tools": [tool]}
        agent = await self._version("draft", template_id="react-agent", template_config=config)
        order = {"model": agent["id"], "input": f'{tool} {{"to": "x"}}'}
        run = str((await self._as("owner", "POST", "/v1/runs", order))["id"])
        for _ in range(200):
            asked = await self._as("owner", "GET", f"/v1/runs/{run}/approvals")
            if asked["data"]:
                RUN_OF[asked["data"][0]["id"]] = run
                return run
            await asyncio.sleep(0.02)
        raise AssertionError("the run does not wait")

    async def _approval(self, tool: str) -> str:
        run = await self._waiting(tool)
        return next(approval for approval, of in RUN_OF.items() if of == run)

    async def _provider(self) -> str:
        body = {"id": f"made-up-{next(numbers)}", "type": "demo", "models": [{"name": "fast"}]}
        return str((await self._as("admin", "POST", "/v1/providers", body))["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("access")
    tools = [transfer, erase]
    async with serving(folder, tools=tools, jwt_secret=SECRET, allowed_egress=[NOBODY]) as served:
        callers = {}
        for caller, (user, role, project) in CALLERS.items():
            claims = {"sub": user, "roles": [role], "project_id": project}
            token = jwt.encode({**claims, "exp": time.time() + 3_600}, SECRET, "HS256")
            headers = {"Authorization": f"Bearer {token}"}
            callers[caller] = httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30)
        async with httpx.AsyncClient(base_url=served.url) as anonymous:
            # What is to be sent stays as it is while the tables are compared.
            await served.container.courier().stop()
            path = str(served.container.engine().url.database)
            with closing(sqlite3.connect(path)) as database:
                yield World(served, callers, anonymous, database)
        for client in callers.values():
            await client.aclose()


def asking(model: str, **fields: object) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


def saying(agent: str, **fields: object) -> Json:
    return {"agent_id": agent, "message": "Hi", **fields}


def scheduling(model: str, **fields: object) -> Json:
    """Not before the tests have ended."""
    return {"name": "digest", "model": model, "input": "Hi", "cron": "0 0 29 2 *", **fields}


def responding(model: str, **fields: object) -> Json:
    return {"model": model, "input": "Hi", **fields}


@dataclass(frozen=True)
class Row:
    """What each caller gets who sends `thing`, which is the owner's."""

    route: str
    thing: str
    statuses: str
    """Of the callers, in their order."""
    path: str = ""
    """`{id}` stands for the thing, here and in `query` and `body`."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[str], Json] | None = None
    telling: tuple[str, ...] = ()
    """Callers to whom an id that they choose tells whether it is taken."""
    lists: str = ""
    """Callers whose list has the thing in it."""

    @property
    def expected(self) -> dict[str, int]:
        return dict(zip(CALLERS, map(int, self.statuses.split()), strict=True))

    async def send(self, client: httpx.AsyncClient, id: str) -> httpx.Response:
        method, _, path = self.route.partition(" ")
        names = "approval_id|id|model|conversation_id|completion_id|model_id|provider_id"
        if "{approval_id}" in path:
            path = path.replace("{id}", RUN_OF.get(id, "run_0"))
        path = re.sub(rf"\{{({names})\}}", id, self.path or path)
        path = path.replace("{item_id}", ITEM_OF.get(id, "msg_0")).replace("{name}", "fast")
        path = path.replace("{delivery_id}", DELIVERY_OF.get(id, "whd_0"))
        query = {name: value.replace("{id}", id) for name, value in self.query.items()}
        body = self.body(id) if self.body else None
        return await client.request(method, path, params=query, json=body)

    def __str__(self) -> str:
        where = "body" if self.body else ",".join(self.query)
        return f"{self.route} {self.thing} {where}".strip()


def an_agent(**fields: object) -> Json:
    return {"name": f"Mine {next(numbers)}", "template_id": "langgraph-simple-test", **fields}


def a_webhook(**fields: object) -> Json:
    return {"url": f"http://{NOBODY}/", "events": ["*"], **fields}


def assembled() -> Json:
    return {"name": f"Assembled {next(numbers)}", "system_prompt": "You are brief."}


def a_change(_: str) -> Json:
    return {"text": f"Changed {next(numbers)}"}


def telling(_: str, **fields: object) -> Json:
    return {"message": "Hi", **fields}


CHAT = "POST /v1/chat/completions"
EMBED = "POST /v1/embeddings"
KEPT = "/v1/chat/completions/{completion_id}"
STREAMED = "POST /api/streaming/chat"
COMPARED = "POST /api/streaming/compare"
RESPONSES = "/v1/responses"
RESPONSE = "/v1/responses/{id}"
AGENTS = "/v1/agents"
TALK = "/v1/conversations/{conversation_id}"
TALKS = "404 404 200 404 200 404"
AGENT = "/v1/agents/{id}"
LIMITS = "PUT /v1/limits/{scope}/{id}"
EVERYBODY = "200 200 200 200 200 200"
MANY: Json = {"requests_per_minute": 10**9, "budget": {"tokens": 10**9}}
PRICE: Json = {"input": 1, "output": 2}
PROVIDERS = "/v1/providers"
PROVIDER = "/v1/providers/{id}"
PROVIDER_MODELS = f"{PROVIDER}/models"
PROVIDER_MODEL = f"{PROVIDER}/models/{{name}}"
RUN = "/v1/runs/{id}"
SCHEDULES = "/v1/schedules"
SCHEDULE = "/v1/schedules/{id}"
OWNS = "404 404 200 404 200 404"
ADMINS = "403 403 403 403 200 404"
THE_PROJECTS = "200 200 200 200 200 404"
EVERY_MEMBER = "viewer other owner reviewer admin"
MEMORIES = "/v1/memories"
MEMORY = "/v1/memories/{id}"
FACTS = {"query": "Fact", "limit": "200"}
RENAMED: Json = {"description": "Changed."}

WEBHOOKS = "/v1/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{id}}"
MANAGERS = "403 404 200 403 200 404"
SAYS = "POST /api/agents/{id}/messages"

MATRIX = [
    # route, thing, then: viewer other owner reviewer admin stranger
    Row(CHAT, "draft", "404 404 200 404 404 404", body=asking),
    Row(CHAT, "named draft", "404 404 200 404 404 404", body=asking),
    Row(CHAT, "submitted", "404 404 200 200 200 404", body=asking),
    Row(CHAT, "beta", "404 404 200 404 404 404", body=lambda id: asking(id, stream=True)),
    Row(CHAT, "draft", "404 404 200 404 404 404", body=lambda id: asking(id, stream=True)),
    Row(CHAT, "published", "200 200 200 200 200 404", body=asking),
    Row(EMBED, "none", EVERYBODY, body=lambda _: {"model": "demo", "input": "Hi"}),
    Row(EMBED, "draft", "404 404 400 404 404 404", body=lambda id: {"model": id, "input": "Hi"}),
    Row(
        CHAT,
        "conversation",
        TALKS,
        body=lambda id: asking("assistant", metadata={"session_id": id}),
    ),
    Row(STREAMED, "draft", "404 404 200 404 404 404", body=saying),
    Row(STREAMED, "published", "200 200 200 200 200 404", body=saying),
    Row(STREAMED, "published", "200 200 200 200 200 404", body=lambda id: saying(id, stream=False)),
    Row(STREAMED, "conversation", TALKS, body=lambda id: saying("assistant", session_id=id)),
    Row(STREAMED, "conversation", TALKS, body=lambda id: saying("assistant", conversation_id=id)),
    Row(STREAMED, "none", "403 200 200 403 200 200", body=lambda _: {"message": "Hi"}),
    Row(
        COMPARED,
        "none",
        "403 200 200 403 200 200",
        body=lambda _: {"message": "Hi", "providers": ["demo", "demo/other"]},
    ),
    Row("POST /v1/conversations", "none", EVERYBODY, body=lambda _: {"items": [SAYING]}),
    Row(f"GET {TALK}", "conversation", TALKS),
    Row(f"POST {TALK}", "conversation", TALKS, body=lambda _: {"metadata": {"a": "b"}}),
    Row(f"DELETE {TALK}", "conversation", TALKS),
    Row(f"POST {TALK}/items", "conversation", TALKS, body=lambda _: {"items": [SAYING]}),
    Row(f"GET {TALK}/items", "conversation", TALKS),
    Row(f"GET {TALK}/items/{{item_id}}", "conversation", TALKS),
    Row(f"DELETE {TALK}/items/{{item_id}}", "conversation", TALKS),
    Row(f"GET {KEPT}", "completion", "404 404 200 404 200 404"),
    Row(f"POST {KEPT}", "completion", "404 404 200 404 200 404", body=lambda _: {"metadata": {}}),
    Row(f"DELETE {KEPT}", "completion", "404 404 200 404 200 404"),
    Row(f"GET {KEPT}/messages", "completion", "404 404 200 404 200 404"),
    Row(
        "GET /v1/chat/completions",
        "completion",
        EVERYBODY,
        query={"limit": "100"},
        lists="owner admin",
    ),
    Row(
        "GET /v1/chat/completions",
        "completion",
        "400 400 200 400 200 400",
        query={"after": "{id}"},
    ),
    Row(f"POST {RESPONSES}", "draft", "404 404 200 404 404 404", body=responding),
    Row(f"POST {RESPONSES}", "published", "200 200 200 200 200 404", body=responding),
    Row(
        f"POST {RESPONSES}",
        "draft",
        "404 404 200 404 404 404",
        body=lambda id: responding(id, stream=True),
    ),
    Row(
        f"POST {RESPONSES}",
        "draft",
        "404 404 200 404 404 404",
        body=lambda id: responding(id, background=True),
    ),
    Row(
        f"POST {RESPONSES}",
        "response",
        "400 400 200 400 200 400",
        body=lambda id: responding("assistant", previous_response_id=id),
    ),
    Row(
        f"POST {RESPONSES}/input_tokens",
        "response",
        "400 400 200 400 200 400",
        body=lambda id: responding("assistant", previous_response_id=id),
    ),
    Row(
        f"POST {RESPONSES}",
        "conversation",
        TALKS,
        body=lambda id: responding("assistant", conversation=id),
    ),
    Row(f"GET {RESPONSE}", "response", "404 404 200 404 200 404"),
    Row(
        f"GET {RESPONSE}",
        "background response",
        "404 404 200 404 200 404",
        query={"stream": "true"},
    ),
    Row(f"DELETE {RESPONSE}", "response", "404 404 200 404 200 404"),
    Row(f"POST {RESPONSE}/cancel", "background response", "404 404 200 404 200 404"),
    Row(f"GET {RESPONSE}/input_items", "response", "404 404 200 404 200 404"),
    Row("GET /v1/models", "none", EVERYBODY),
    Row("GET /v1/models/{model}", "draft", "404 404 200 404 404 404"),
    Row("GET /v1/models/{model}", "beta", "404 404 200 404 404 404"),
    Row("GET /v1/models/{model}", "published", "200 200 200 200 200 404"),
    Row(f"POST {AGENTS}", "none", "403 201 201 403 201 201", body=lambda _: an_agent()),
    Row(
        f"POST {AGENTS}",
        "line",
        "403 404 201 403 201 409",
        body=lambda id: an_agent(agent_line_id=id),
        telling=("stranger",),
    ),
    Row(
        f"POST {AGENTS}",
        "draft",
        "403 403 403 403 409 409",
        body=lambda id: an_agent(id=id),
        telling=("admin", "stranger"),
    ),
    Row(
        f"POST {AGENTS}", "none", "403 403 201 403 201 201", body=lambda _: an_agent(owner_id="ann")
    ),
    Row(
        f"POST {AGENTS}",
        "none",
        "403 403 403 403 403 403",
        body=lambda _: an_agent(status="published"),
    ),
    Row(f"GET {AGENTS}", "draft", EVERYBODY, query={"limit": "200"}, lists="owner reviewer admin"),
    Row(
        f"GET {AGENTS}",
        "published",
        EVERYBODY,
        query={"limit": "200"},
        lists="viewer other owner reviewer admin",
    ),
    Row(
        f"GET {AGENTS}",
        "line",
        EVERYBODY,
        query={"agent_line_id": "{id}"},
        lists="owner reviewer admin",
    ),
    Row(
        f"GET {AGENTS}",
        "beta",
        EVERYBODY,
        query={"owner_id": "ann", "limit": "200"},
        lists="owner reviewer admin",
    ),
    Row(f"GET {AGENT}", "draft", "404 404 200 200 200 404"),
    Row(f"GET {AGENT}", "named draft", "404 404 200 200 200 404"),
    Row(f"GET {AGENT}", "beta", "404 404 200 200 200 404"),
    Row(f"GET {AGENT}", "published", "200 200 200 200 200 404"),
    Row(f"PUT {AGENT}", "draft", "403 404 200 403 200 404", body=lambda _: RENAMED),
    Row(f"PUT {AGENT}", "published", "403 403 409 403 409 404", body=lambda _: RENAMED),
    Row(f"PATCH {AGENT}", "draft", "403 404 200 403 200 404", body=lambda _: RENAMED),
    Row(f"PATCH {AGENT}", "published", "403 403 409 403 409 404", body=lambda _: RENAMED),
    Row(f"DELETE {AGENT}", "draft", "403 404 200 403 200 404"),
    Row(f"DELETE {AGENT}", "published", "403 403 403 403 200 404"),
    Row(f"POST {AGENT}/submit", "draft", "403 404 200 403 200 404"),
    Row(f"POST {AGENT}/submit", "published", "403 403 409 403 409 404"),
    Row(f"POST {AGENT}/approve", "submitted", "403 403 403 200 200 404"),
    Row(
        f"POST {AGENT}/reject",
        "submitted",
        "403 403 403 200 200 404",
        body=lambda _: {"reason": "x"},
    ),
    Row(f"POST {AGENT}/revoke", "published", "403 403 403 200 200 404"),
    Row(f"POST {AGENT}/rollback", "superseded", "403 403 403 200 200 404"),
    Row(f"POST {AGENT}/versions", "draft", "403 404 201 403 201 404"),
    Row(f"POST {AGENT}/versions", "published", "403 403 201 403 201 404"),
    Row(f"GET {AGENT}/versions", "draft", "404 404 200 200 200 404"),
    Row(f"GET {AGENT}/diff", "draft", "404 404 200 200 200 404"),
    Row(
        f"GET {AGENT}/diff",
        "draft",
        "404 404 200 200 200 404",
        path="/v1/agents/assistant/diff",
        query={"against": "{id}"},
    ),
    Row(f"GET {AGENT}/audit", "draft", "404 404 200 200 200 404"),
    Row(f"GET {AGENT}/audit", "published", "403 403 200 200 200 404"),
    Row(f"POST {MEMORIES}", "none", "201 201 201 201 201 201", body=lambda _: {"text": "Tea."}),
    Row(
        f"POST {MEMORIES}",
        "none",
        "403 201 201 403 201 201",
        body=lambda _: {"text": "Tea.", "scope": "shared"},
    ),
    Row(
        f"POST {MEMORIES}",
        "draft",
        "404 404 201 404 404 404",
        body=lambda id: {"text": "Tea.", "scope": "agent", "agent": id},
    ),
    Row(f"GET {MEMORIES}", "memory", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row(f"GET {MEMORIES}", "memory", EVERYBODY, query=FACTS, lists="owner admin"),
    Row(f"GET {MEMORIES}", "shared memory", EVERYBODY, query=FACTS, lists=EVERY_MEMBER),
    Row(f"GET {MEMORIES}", "draft", "404 404 200 404 404 404", query={"agent": "{id}"}),
    Row(f"GET {MEMORY}", "memory", "404 404 200 404 200 404"),
    Row(f"GET {MEMORY}", "shared memory", "200 200 200 200 200 404"),
    Row(f"PATCH {MEMORY}", "memory", "404 404 200 404 200 404", body=a_change),
    Row(f"PATCH {MEMORY}", "shared memory", "403 200 200 403 200 404", body=a_change),
    Row(f"DELETE {MEMORY}", "memory", "404 404 200 404 200 404"),
    Row(f"DELETE {MEMORY}", "shared memory", "403 200 200 403 200 404"),
    Row(f"DELETE {MEMORIES}", "none", EVERYBODY, query={"all": "true"}),
    Row(
        f"DELETE {MEMORIES}",
        "memory",
        "403 403 200 403 200 200",
        query={"all": "true", "user_id": "ann"},
    ),
    Row(
        f"GET {MEMORIES}",
        "memory",
        "403 403 200 403 200 200",
        query={**FACTS, "user_id": "ann"},
        lists="owner admin",
    ),
    Row(
        f"POST {MEMORIES}",
        "none",
        "403 403 201 403 201 201",
        body=lambda _: {"text": "Tea.", "user_id": "ann"},
    ),
    Row(f"POST {WEBHOOKS}", "none", "403 201 201 403 201 201", body=lambda _: a_webhook()),
    Row(
        f"POST {WEBHOOKS}",
        "draft",
        "403 404 201 403 201 404",
        body=lambda id: a_webhook(agent=id),
    ),
    Row(
        f"POST {WEBHOOKS}",
        "none",
        "403 403 403 403 201 201",
        body=lambda _: a_webhook(scope="project"),
    ),
    Row(f"GET {WEBHOOKS}", "webhook", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row(f"GET {WEBHOOK}", "webhook", "404 404 200 404 200 404"),
    Row(f"PATCH {WEBHOOK}", "webhook", MANAGERS, body=lambda _: {"description": "Changed."}),
    Row(f"DELETE {WEBHOOK}", "webhook", MANAGERS),
    Row(f"POST {WEBHOOK}/rotate_secret", "webhook", MANAGERS),
    Row(f"POST {WEBHOOK}/test", "webhook", MANAGERS),
    Row(f"GET {WEBHOOK}/deliveries", "webhook that was told", "404 404 200 404 200 404"),
    Row(f"POST {WEBHOOK}/deliveries/{{delivery_id}}/retry", "webhook that was told", MANAGERS),
    Row("GET /v1/templates", "none", EVERYBODY),
    Row("GET /v1/templates/{template_id}", "none", EVERYBODY, path="/v1/templates/react-agent"),
    Row(
        "GET /v1/templates/{template_id}/{version}",
        "none",
        EVERYBODY,
        path="/v1/templates/react-agent/1.0.0",
    ),
    Row(
        "POST /v1/templates/{template_id}/validate",
        "none",
        EVERYBODY,
        path="/v1/templates/react-agent/validate",
        body=lambda _: {"template_config": {}},
    ),
    Row("GET /v1/runs", "run", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row("GET /v1/runs", "run's agent", EVERYBODY, query={"agent_id": "{id}"}, lists="owner admin"),
    Row("GET /v1/runs", "session", EVERYBODY, query={"session_id": "{id}"}, lists="owner admin"),
    Row("GET /v1/runs/{id}", "run", "404 404 200 404 200 404"),
    Row("POST /v1/runs", "draft", "404 404 202 404 404 404", body=responding),
    Row("POST /v1/runs", "submitted", "404 404 202 202 202 404", body=responding),
    Row("POST /v1/runs", "published", "202 202 202 202 202 404", body=responding),
    Row("GET /v1/runs/{id}", "run with steps", "404 404 200 404 200 404"),
    Row(f"GET {RUN}/steps", "run with steps", "404 404 200 404 200 404"),
    Row(f"GET {RUN}/events", "run with steps", "404 404 200 404 200 404"),
    Row(f"POST {RUN}/cancel", "run with steps", "404 404 200 404 200 404"),
    Row(f"POST {RUN}/retry", "run with steps", "404 404 202 404 202 404"),
    Row(f"GET {RUN}/checkpoints", "run with steps", "404 404 200 404 200 404"),
    Row(
        f"POST {RUN}/fork",
        "run with steps",
        "404 404 202 404 202 404",
        body=lambda id: {"checkpoint_id": CHECKPOINT_OF.get(id, "none")},
    ),
    Row(f"POST {RUN}/resume", "cancelled run", "404 404 202 404 202 404"),
    Row("GET /v1/runs/{id}/tool_calls", "waiting run", "404 404 200 404 200 404"),
    Row("GET /v1/runs/{id}/approvals", "waiting run", "404 404 200 404 200 404"),
    Row("GET /v1/runs/{id}/approvals", "run for review", "404 404 200 200 200 404"),
    Row("GET /v1/approvals", "waiting run", EVERYBODY, lists="owner admin"),
    Row("GET /v1/approvals", "run for review", EVERYBODY, lists="owner reviewer admin"),
    Row(
        "POST /v1/runs/{id}/approvals/{approval_id}",
        "approval",
        "404 404 200 404 200 404",
        body=lambda _: {"decision": "approve"},
    ),
    Row(
        "POST /v1/runs/{id}/approvals/{approval_id}",
        "review",
        "404 404 403 200 200 404",
        body=lambda _: {"decision": "approve"},
    ),
    Row("GET /v1/runs/{id}/feedback", "run", "404 404 200 404 200 404"),
    Row(
        "POST /v1/runs/{id}/feedback",
        "run",
        "404 404 200 404 200 404",
        body=lambda _: {"rating": "up"},
    ),
    Row("POST /v1/keys", "none", "201 201 201 201 201 201", body=lambda _: {"name": "CI"}),
    Row(
        "POST /v1/keys",
        "none",
        "403 403 201 403 201 201",
        body=lambda _: {"name": "CI", "user_id": "ann"},
    ),
    Row(
        "POST /v1/keys",
        "none",
        "403 403 403 403 201 201",
        body=lambda _: {"name": "CI", "roles": ["admin"]},
    ),
    Row("GET /v1/keys", "key", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row("DELETE /v1/keys/{id}", "key", "404 404 200 404 200 404"),
    Row(
        LIMITS,
        "key",
        "403 403 403 403 200 404",
        path="/v1/limits/key/{id}",
        body=lambda _: MANY,
    ),
    Row(
        LIMITS,
        "published",
        "403 403 403 403 200 404",
        path="/v1/limits/agent/{id}",
        body=lambda _: MANY,
    ),
    Row(
        LIMITS,
        "none",
        "403 403 403 403 200 404",
        path="/v1/limits/project/default",
        body=lambda _: MANY,
    ),
    Row(
        "GET /v1/limits/{scope}/{id}",
        "limited key",
        "404 404 200 404 200 404",
        path="/v1/limits/key/{id}",
    ),
    Row(
        "GET /v1/limits/{scope}/{id}",
        "limited project",
        "200 200 200 200 200 404",
        path="/v1/limits/project/default",
    ),
    Row("GET /v1/limits", "limited key", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row(
        "DELETE /v1/limits/{scope}/{id}",
        "limited key",
        "403 403 403 403 200 404",
        path="/v1/limits/key/{id}",
    ),
    Row("GET /v1/usage", "line that ran", EVERYBODY, query={"by": "agent"}, lists="owner admin"),
    Row("GET /v1/usage", "none", EVERYBODY),
    Row(
        "GET /v1/prices",
        "price",
        EVERYBODY,
        query={"limit": "200"},
        lists="viewer other owner reviewer admin",
    ),
    Row("GET /v1/prices/{model}", "price", "200 200 200 200 200 404"),
    Row("PUT /v1/prices/{model}", "price", "403 403 403 403 200 200", body=lambda _: PRICE),
    Row("DELETE /v1/prices/{model}", "price", "403 403 403 403 200 404"),
    Row("POST /api/agents", "none", "403 200 200 403 200 200", body=lambda _: assembled()),
    Row(
        "GET /api/agents",
        "draft",
        EVERYBODY,
        query={"limit": "200"},
        lists="owner reviewer admin",
    ),
    Row("GET /api/agents/{id}", "draft", "404 404 200 200 200 404"),
    Row("GET /api/agents/{id}", "named draft", "404 404 200 200 200 404"),
    Row("GET /api/agents/{id}", "published", "200 200 200 200 200 404"),
    Row(SAYS, "draft", "404 404 200 404 404 404", body=telling),
    Row(SAYS, "submitted", "404 404 200 200 200 404", body=telling),
    Row(SAYS, "beta", "404 404 200 404 404 404", body=lambda id: telling(id, stream=True)),
    Row(SAYS, "published", "200 200 200 200 200 404", body=telling),
    Row(
        SAYS,
        "conversation",
        TALKS,
        path="/api/agents/assistant/messages",
        body=lambda id: telling(id, conversation_id=id),
    ),
    Row(f"POST {SCHEDULES}", "draft", "404 404 201 404 404 404", body=scheduling),
    Row(f"POST {SCHEDULES}", "published", "201 201 201 201 201 404", body=scheduling),
    Row(
        f"POST {SCHEDULES}",
        "conversation",
        "404 404 201 404 201 404",
        body=lambda id: scheduling("assistant", session_id=id),
    ),
    Row(f"GET {SCHEDULES}", "schedule", EVERYBODY, query={"limit": "200"}, lists="owner admin"),
    Row(f"GET {SCHEDULE}", "schedule", OWNS),
    Row(
        f"PATCH {SCHEDULE}",
        "schedule",
        "404 404 200 404 403 404",
        body=lambda _: {"name": "renamed"},
        telling=("admin",),
    ),
    Row(f"DELETE {SCHEDULE}", "schedule", OWNS),
    Row(f"POST {SCHEDULE}/pause", "schedule", OWNS),
    Row(f"POST {SCHEDULE}/resume", "paused schedule", OWNS),
    Row(f"POST {SCHEDULE}/run", "schedule", "404 404 202 404 202 404"),
    Row(f"GET {SCHEDULE}/runs", "schedule", OWNS),
    Row("GET /api/tools", "none", EVERYBODY),
    Row("GET /api/health", "none", EVERYBODY),
    Row(
        f"POST {PROVIDERS}",
        "none",
        "403 403 403 403 201 201",
        body=lambda _: {"id": f"mine-{next(numbers)}", "type": "demo"},
    ),
    Row(
        f"POST {PROVIDERS}",
        "provider",
        "403 403 403 403 409 201",
        body=lambda id: {"id": id, "type": "demo"},
        telling=("admin",),
    ),
    Row(
        f"POST {PROVIDERS}",
        "provider",
        "403 403 403 403 201 400",
        body=lambda id: {
            "id": f"mine-{next(numbers)}",
            "type": "demo",
            "models": [{"name": "fast", "fallbacks": [{"model": id}]}],
        },
    ),
    Row(f"GET {PROVIDERS}", "provider", EVERYBODY, query={"limit": "200"}, lists=EVERY_MEMBER),
    Row(f"GET {PROVIDERS}/types", "none", EVERYBODY),
    Row(f"GET {PROVIDERS}/health", "provider", EVERYBODY, lists=EVERY_MEMBER),
    Row(f"GET {PROVIDERS}/health", "none", "403 403 403 403 200 200", query={"probe": "true"}),
    Row(f"GET {PROVIDER}", "provider", THE_PROJECTS),
    Row(f"PATCH {PROVIDER}", "provider", ADMINS, body=lambda _: {"default_model": "x"}),
    Row(f"DELETE {PROVIDER}", "provider", ADMINS),
    Row(f"POST {PROVIDER}/enable", "provider", ADMINS),
    Row(f"POST {PROVIDER}/disable", "provider", ADMINS),
    Row(f"POST {PROVIDER}/test", "none", "403 403 403 403 200 200", path=f"{PROVIDERS}/demo/test"),
    Row(f"GET {PROVIDER_MODELS}", "provider", THE_PROJECTS),
    Row(
        f"POST {PROVIDER_MODELS}",
        "provider",
        "403 403 403 403 201 404",
        body=lambda _: {"name": "slow"},
    ),
    Row(f"GET {PROVIDER_MODEL}", "provider", THE_PROJECTS),
    Row(f"PUT {PROVIDER_MODEL}", "provider", ADMINS, body=lambda _: {"weight": 2}),
    Row(f"DELETE {PROVIDER_MODEL}", "provider", ADMINS),
    Row(f"PATCH {PROVIDER_MODEL}", "provider", ADMINS, body=lambda _: {"enabled": False}),
    Row(
        "POST /api/models",
        "none",
        "403 403 403 403 200 200",
        body=lambda _: {"model_id": f"mine-{next(numbers)}", "provider": "demo"},
    ),
    Row("GET /api/models", "provider", EVERYBODY, query={"limit": "200"}, lists=EVERY_MEMBER),
    Row("GET /api/models/{model_id}", "provider", THE_PROJECTS),
    Row("DELETE /api/models/{model_id}", "provider", ADMINS),
    Row(
        "POST /api/streaming/providers/register",
        "none",
        "403 403 403 403 200 200",
        body=lambda _: {"provider_id": f"mine-{next(numbers)}", "provider_type": "demo"},
    ),
    Row(
        "GET /api/streaming/providers",
        "provider",
        EVERYBODY,
        query={"limit": "200"},
        lists=EVERY_MEMBER,
    ),
    Row("GET /api/streaming/providers/health", "none", "403 403 403 403 200 200"),
    Row("DELETE /api/streaming/providers/{provider_id}", "provider", ADMINS),
    Row("GET /v1/schema", "none", EVERYBODY),
    Row("GET /v1/health", "none", EVERYBODY),
    Row("GET /api/streaming/stats", "none", EVERYBODY),
    Row("GET /metrics", "none", EVERYBODY),
    Row("GET /healthz", "none", EVERYBODY),
    Row("GET /readyz", "none", EVERYBODY),
]
FOR_ANYBODY = ("GET /healthz", "GET /readyz")


def unknown_like(id: str) -> str:
    """Of the same form and length, and nobody's."""
    if re.fullmatch(r"[a-z]+_[0-9a-f]{32}", id):
        return f"{id.partition('_')[0]}_{uuid7_hex()}"
    return "x" * len(id.partition("@")[0]) + "".join(id.partition("@")[1:])


def comparable(response: httpx.Response, id: str) -> tuple[int, str, list[tuple[str, str]]]:
    headers = [(k, v) for k, v in response.headers.items() if k not in PER_REQUEST]
    text = response.text.replace(response.headers["x-request-id"], "REQUEST")
    return response.status_code, text.replace(id, "ID"), headers


async def test_every_route_has_a_row(world: World) -> None:
    spec = (await world.anonymous.get("/openapi.json")).json()
    routes = {
        f"{method.upper()} {path}"
        for path, operations in spec["paths"].items()
        for method in operations
    }

    assert {row.route for row in MATRIX} == routes


@pytest.mark.parametrize("row", MATRIX, ids=str)
async def test_each_caller_gets_what_the_matrix_says(world: World, row: Row) -> None:
    shared = await world.thing(row.thing)
    for caller, status in row.expected.items():
        client = world.callers[caller]
        if status < 400:
            id = await world.thing(row.thing)
            response = await row.send(client, id)
            assert response.status_code == status, (caller, response.text)
            if row.lists:
                assert (id in response.text) == (caller in row.lists.split()), caller
            continue
        before = await world.rows()
        response = await row.send(client, shared)
        assert response.status_code == status, (caller, response.text)
        assert not response.headers["content-type"].startswith("text/event-stream")
        assert await world.rows() == before, caller
        if shared and not knows(row, caller):
            unknown = unknown_like(shared)
            other = await row.send(client, unknown)
            assert comparable(other, unknown) == comparable(response, shared), caller


@pytest.mark.parametrize("row", MATRIX, ids=str)
async def test_nobody_gets_anything_without_a_credential(world: World, row: Row) -> None:
    id = await world.thing(row.thing)
    before = await world.rows()
    for known in (id, unknown_like(id)):
        response = await row.send(world.anonymous, known)
        expected = 200 if row.route in FOR_ANYBODY else 401
        assert response.status_code == expected
        assert not response.headers["content-type"].startswith("text/event-stream")
        assert not id or id not in response.text
    assert await world.rows() == before


async def test_a_list_that_is_asked_for_something_foreign_is_that_of_something_unknown(
    world: World,
) -> None:
    for row in MATRIX:
        if "{id}" not in row.query.values() or not row.lists:
            continue
        id = await world.thing(row.thing)
        for caller in CALLERS.keys() - set(row.lists.split()):
            client = world.callers[caller]
            unknown = unknown_like(id)
            foreign, other = await row.send(client, id), await row.send(client, unknown)
            assert comparable(foreign, id) == comparable(other, unknown), (str(row), caller)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/agents", "draft"),
        ("/v1/runs", "run"),
        ("/v1/keys", "key"),
        ("/v1/limits", "limited key"),
        ("/v1/memories", "memory"),
        ("/v1/webhooks", "webhook"),
    ],
)
async def test_a_foreign_cursor_leads_to_nothing_foreign(
    world: World, path: str, kind: str
) -> None:
    older, _ = await world.thing(kind), await world.thing(kind)
    page = (await world.callers["owner"].get(path, params={"limit": "1"})).json()

    for caller, shown in (("owner", True), ("admin", True), ("other", False), ("stranger", False)):
        query = {"after": page["next_cursor"], "limit": "200"}
        response = await world.callers[caller].get(path, params=query)
        assert response.status_code == 200
        assert (older in response.text) == shown


async def test_a_line_s_foreign_cursor_is_refused_like_any_other(world: World) -> None:
    mine, foreign = await world.thing("published"), await world.thing("published")
    owner = world.callers["owner"]
    page = (await owner.get(f"/v1/agents/{foreign}/audit", params={"limit": "1"})).json()
    answers = {
        (await owner.get(f"/v1/agents/{mine}/audit", params={"after": cursor})).text
        for cursor in (page["next_cursor"], "garbage")
    }
    assert len(answers) == 1


async def test_numbers_of_the_runtime_are_of_ones_own_runs(world: World) -> None:
    await world.thing("run")
    await world.rows()  # Nothing goes on.
    for caller, client in world.callers.items():
        total = (await client.get("/v1/health")).json()["metrics"]["total_executions"]
        ended = [run async for run in runs_of(client) if run["ended_at"]]
        assert total == len(ended), caller


async def runs_of(client: httpx.AsyncClient) -> AsyncIterator[Json]:
    after: dict[str, str] = {}
    while True:
        page = (await client.get("/v1/runs", params={"limit": "200", **after})).json()
        for run in page["data"]:
            yield run
        if not page["has_more"]:
            return
        after = {"after": page["next_cursor"]}


def knows(row: Row, caller: str) -> bool:
    """Whether the caller may learn that the thing is there."""
    if caller in row.telling:
        return True
    released = row.thing in ("published", "superseded", "shared memory") and caller != "stranger"
    return released or caller == "owner"
