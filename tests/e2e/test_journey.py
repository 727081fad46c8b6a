"""From a template file in a folder to a rolled-back release, over HTTP, on both databases."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.server import Json, Served, serving

TEMPLATE = '''
from typing import Literal

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field

from runtime.templates.langgraph import LangGraphTemplate


class Greeter(LangGraphTemplate):
    """Greets in a chosen tone."""

    template_id, template_name, template_version = "greeter", "Greeter", "VERSION"

    class Config(BaseModel):
        greeting: str = Field(min_length=1, max_length=80, description="How it begins.")
        tone: Literal["friendly", "formal"] = "friendly"

    def build_graph(self):
        async def answer(state: MessagesState):
            said = await self.model.ainvoke(
                [("system", self.config.greeting), *state["messages"]]
            )
            return {"messages": [said]}

        async def greet(state: MessagesState):
            return {"messages": [AIMessage(f"{self.config.greeting} ({self.config.tone}) ")]}

        graph = StateGraph(MessagesState).add_node(greet).add_node(answer)
        return graph.add_edge(START, "greet").add_edge("greet", "answer")
'''


@pytest.fixture(params=["sqlite", "postgres"])
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    url = request.getfixturevalue("fresh_postgres_url") if request.param == "postgres" else ""
    folder = tmp_path / "templates"
    async with serving(
        tmp_path, database_url=url, template_dirs=[folder], demo_token_delay_ms=20
    ) as served:
        yield served


def put(folder: Path, source: str) -> None:
    """As editors save: the old file or the new one, never half of it."""
    beside = folder / ".greeter.py.new"
    beside.write_text(source)
    os.replace(beside, folder / "greeter.py")


def has_greeter(listed: Json) -> bool:
    return any(each["template_id"] == "greeter" for each in listed["data"])


async def test_from_a_file_to_a_rollback(runtime: Served, tmp_path: Path) -> None:
    # A template file dropped into a folder appears, with its form.
    put(tmp_path / "templates", TEMPLATE.replace("VERSION", "1.0.0"))
    await runtime.until(has_greeter, "/v1/templates")
    template = await runtime.get("/v1/templates/greeter")
    fields = {field["id"]: field for field in template["sections"][0]["fields"]}
    assert fields["tone"]["type"] == "select"
    assert fields["tone"]["validation"]["options"] == ["friendly", "formal"]
    assert fields["greeting"]["validation"] == {"required": True, "min": 1, "max": 80}
    assert template["configSchema"]["properties"].keys() == fields.keys()

    # A bad field is refused by name, with what it may take, and nothing is stored.
    draft = {"name": "Support", "template_id": "greeter"}
    refused = await runtime.post(
        "/v1/agents",
        {**draft, "template_config": {"greeting": "Hi", "tone": "rude"}},
        status=422,
    )
    assert refused["error"] == "VALIDATION_ERROR"
    assert refused["details"]["param"] == "template_config.tone"
    assert refused["details"]["errors"][0]["allowed"] == ["friendly", "formal"]
    assert (await runtime.get("/v1/agents?slug=support"))["data"] == []

    # Filled in from the form, submitted, looked at, approved.
    first = await runtime.create(**draft, template_config={"greeting": "Hi"})
    assert (first["status"], first["slug"]) == ("draft", "support")
    assert (await runtime.http.get("/v1/models/support")).status_code == 404
    await runtime.post(f"/v1/agents/{first['id']}/submit")
    published = await runtime.post(
        f"/v1/agents/{first['id']}/approve", {"content_hash": first["content_hash"]}
    )
    assert published["status"] == "published"

    # A caller gets it by name, streaming and not.
    assert (await runtime.ask("support")).startswith("Hi (friendly) [demo]")
    assert "support" in [model.id async for model in runtime.openai.models.list()]

    # The next version: what changed is told field by field.
    second = await runtime.post(
        f"/v1/agents/{first['id']}/versions",
        {"template_config": {"greeting": "Good day", "tone": "formal"}},
        status=201,
    )
    await runtime.post(f"/v1/agents/{second['id']}/submit")
    diff = await runtime.get(f"/v1/agents/{second['id']}/diff?against=v1")
    assert [(c["path"], c["before"], c["after"]) for c in diff["changes"]] == [
        ("template_config.greeting", "Hi", "Good day"),
        ("template_config.tone", "friendly", "formal"),
    ]

    # It is published while v1 streams on.
    stream = await runtime.openai.chat.completions.create(
        model="support", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    streamed = ""
    approved = False
    async for chunk in stream:
        streamed += chunk.choices[0].delta.content or ""
        if streamed and not approved:
            await runtime.post(f"/v1/agents/{second['id']}/approve")
            approved = True
            assert (await runtime.ask("support")).startswith("Good day (formal)")
    assert streamed.startswith("Hi (friendly) [demo] You said")
    assert (await runtime.ask("support@v1")).startswith("Hi (friendly)")
    assert (await runtime.ask(first["id"])).startswith("Hi (friendly)")
    assert (await runtime.ask("support@v2")).startswith("Good day")

    # Back to v1 in one call.
    back = await runtime.post(f"/v1/agents/{second['id']}/rollback")
    assert (back["id"], back["status"]) == (first["id"], "published")
    assert (await runtime.ask("support")).startswith("Hi (friendly)")

    # The trail shows it all.
    trail = (await runtime.get(f"/v1/agents/{first['id']}/audit"))["data"]
    assert [(each["action"], each["version_number"]) for each in reversed(trail)] == [
        ("create", "v1"),
        ("submit", "v1"),
        ("approve", "v1"),
        ("create", "v2"),
        ("submit", "v2"),
        ("approve", "v2"),
        ("rollback", "v1"),
    ]
    assert trail[1]["after_hash"] == second["content_hash"]
    assert trail[1]["detail"]["self_approved"] is True


async def test_a_broken_edit_keeps_the_last_good_version_serving(
    runtime: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "templates"
    put(folder, TEMPLATE.replace("VERSION", "1.0.0"))
    await runtime.until(has_greeter, "/v1/templates")
    agent = {"name": "Bot", "template_id": "greeter", "template_config": {"greeting": "Hi"}}
    await runtime.publish(**agent)

    put(folder, TEMPLATE.replace("VERSION", "1.0.0").replace("class Config", "clas Config"))
    listed = await runtime.until(lambda found: bool(found["errors"]), "/v1/templates")
    (problem,) = listed["errors"]
    assert (problem["source"], problem["serving"]) == ("greeter.py", ["greeter@1.0.0"])
    assert problem["error"].startswith("SyntaxError")
    assert str(tmp_path) not in problem["error"]
    assert (await runtime.ask("bot")).startswith("Hi (friendly)")
    assert (await runtime.get("/v1/health"))["status"] == "degraded"

    # Mended, as a later version: both are there, the agent stays with its own.
    put(folder, TEMPLATE.replace("VERSION", "1.1.0").replace("{self.config.tone}", "new"))
    await runtime.until(lambda found: not found["errors"], "/v1/templates")
    assert (await runtime.get("/v1/templates/greeter"))["versions"] == ["1.1.0", "1.0.0"]
    assert (await runtime.ask("bot")).startswith("Hi (friendly)")
    upgraded = await runtime.post(
        "/v1/agents/bot/versions", {"template_version_id": "1.1.0"}, status=201
    )
    await runtime.post(f"/v1/agents/{upgraded['id']}/submit")
    await runtime.post("/v1/agents/bot@v2/approve")
    assert (await runtime.ask("bot")).startswith("Hi (new)")


async def test_two_editors_one_wins(runtime: Served) -> None:
    agent = await runtime.create(name="Shared", template_id="langgraph-simple-test")
    etag = (await runtime.http.get(f"/v1/agents/{agent['id']}")).headers["ETag"]
    bodies = [{"description": "one"}, {"description": "two"}]
    answers = await asyncio.gather(
        *(
            runtime.http.patch(f"/v1/agents/{agent['id']}", json=body, headers={"If-Match": etag})
            for body in bodies
        )
    )

    codes = sorted(answer.status_code for answer in answers)
    assert codes[0] == 200
    assert codes[1] in (409, 412)
