"""Interrupts, checkpoints, forks and resumed runs, over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import Json, Served, serving

TEMPLATE = """
from typing import Annotated, Any, TypedDict
from operator import add
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel
from runtime.templates.langgraph import LangGraphTemplate

class State(TypedDict):
    asked: str
    notes: Annotated[list[str], add]
    answer: str

BROKEN = [True]

class Careful(LangGraphTemplate):
    "Looks, asks a person, and answers."
    template_id, template_name, template_version = "careful", "Careful", "1.0.0"
    answer_key = "answer"
    class Config(BaseModel):
        pass
    def graph_input(self, input: Any) -> Any:
        return {"asked": input.messages[-1].text, "notes": []}
    def build_graph(self) -> Any:
        graph = StateGraph(State)
        graph.add_sequence([self.look, self.ask, self.answer])
        graph.add_edge(START, "look")
        return graph
    async def look(self, state: State) -> Any:
        return {"notes": ["looked at " + state["asked"]]}
    async def ask(self, state: State) -> Any:
        if state["asked"].startswith("plain"):
            return {"notes": ["not asked"]}
        return {"notes": ["told " + str(interrupt({"question": "May I?"}))]}
    async def answer(self, state: State) -> Any:
        if state["asked"].startswith("plain broken") and BROKEN:
            BROKEN.clear()
            raise RuntimeError("broken")
        return {"answer": "; ".join(state["notes"])}
"""


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "careful.py").write_text(TEMPLATE)
    async with serving(tmp_path, template_dirs=[folder]) as server:
        await server.publish(name="Careful", template_id="careful", template_config={})
        yield server


async def started(served: Served, input: str) -> str:
    return str(
        (await served.post("/v1/runs", {"model": "careful", "input": input}, status=202))["id"]
    )


async def ended(served: Served, run: str, status: str = "completed") -> Json:
    found = await served.until(
        lambda each: each["status"] in ("completed", "failed"), f"/v1/runs/{run}"
    )
    assert found["status"] == status, found["error"]
    return found


async def checkpoints(served: Served, run: str) -> list[Json]:
    return list((await served.get(f"/v1/runs/{run}/checkpoints"))["data"])


async def approved(served: Served, run: str, value: str) -> None:
    path = f"/v1/runs/{run}/approvals"
    asked = await served.until(lambda each: bool(each["data"]), path)
    body = {"decision": "approve", "value": value}
    await served.post(f"{path}/{asked['data'][0]['id']}", body)


async def test_a_run_waits_for_a_person_and_goes_on_with_the_answer(served: Served) -> None:
    run = await started(served, "the inbox")
    await served.until(lambda each: each["status"] == "waiting", f"/v1/runs/{run}")

    newest = (await checkpoints(served, run))[0]
    assert newest["next"] == ["ask"]
    assert newest["tasks"][0]["interrupts"][0]["value"] == {"question": "May I?"}
    assert newest["values"]["notes"] == ["looked at the inbox"]

    await approved(served, run, "go ahead")
    assert (await ended(served, run))["output"] == "looked at the inbox; told go ahead"


async def test_a_run_is_forked_from_each_of_its_checkpoints(served: Served) -> None:
    run = await started(served, "plain mail")
    await ended(served, run)
    history = await checkpoints(served, run)
    assert [each["next"] for each in history] == [[], ["answer"], ["ask"], ["look"], ["__start__"]]
    assert [each["parent_id"] for each in history[:-1]] == [each["id"] for each in history[1:]]

    for checkpoint in history:
        body = {"checkpoint_id": checkpoint["id"]}
        fork = await served.post(f"/v1/runs/{run}/fork", body, status=202)
        assert fork["origin"] == {"kind": "fork", "id": run, "checkpoint_id": checkpoint["id"]}
        assert (await ended(served, fork["id"]))["output"] == "looked at plain mail; not asked"
        assert (await checkpoints(served, fork["id"]))[-1]["source"] == "fork"
    assert await checkpoints(served, run) == history


async def test_a_fork_may_change_the_state(served: Served) -> None:
    run = await started(served, "plain mail")
    await ended(served, run)
    asking = (await checkpoints(served, run))[2]

    values = {"asked": "the payroll", "notes": ["and changed"]}
    body = {"checkpoint_id": asking["id"], "values": values}
    fork = await served.post(f"/v1/runs/{run}/fork", body, status=202)
    await approved(served, fork["id"], "no")

    output = (await ended(served, fork["id"]))["output"]
    assert output == "looked at plain mail; and changed; told no"


async def test_a_fork_may_begin_another_turn(served: Served) -> None:
    run = await started(served, "plain mail")
    await ended(served, run)

    body = {"checkpoint_id": (await checkpoints(served, run))[0]["id"], "input": "plain news"}
    fork = await served.post(f"/v1/runs/{run}/fork", body, status=202)

    output = (await ended(served, fork["id"]))["output"]
    assert output == "looked at plain mail; not asked; looked at plain news; not asked"


async def test_a_run_that_failed_goes_on_where_it_was(served: Served) -> None:
    run = await started(served, "plain broken mail")
    await ended(served, run, "failed")

    resumed = await served.post(f"/v1/runs/{run}/resume", status=202)

    assert resumed["origin"]["kind"] == "resume"
    found = await ended(served, resumed["id"])
    assert found["output"] == "looked at plain broken mail; not asked"
    assert [each["name"] for each in found["steps"]] == ["answer"]


async def test_what_can_not_be_gone_back_to_is_refused(served: Served) -> None:
    run = await started(served, "plain mail")
    await ended(served, run)
    newest = (await checkpoints(served, run))[0]["id"]
    fork, resume = f"/v1/runs/{run}/fork", f"/v1/runs/{run}/resume"

    async def code(path: str, body: Json | None, status: int) -> str:
        return str((await served.post(path, body, status=status))["details"]["code"])

    assert await code(fork, {"checkpoint_id": "other"}, 404) == "checkpoint_not_found"
    assert await code(fork, {"checkpoint_id": newest, "values": {"x": 1}}, 400) == "invalid_value"
    both = {"checkpoint_id": newest, "values": {"asked": "1"}, "input": "Hi"}
    assert await code(fork, both, 400) == "invalid_value"
    assert await code(resume, None, 409) == "run_has_completed"
    assert await code("/v1/runs/run_x/resume", None, 404) == "run_not_found"
    await served.get("/v1/runs/run_x/checkpoints", status=404)


async def test_a_run_whose_caller_waited_left_nothing(served: Served) -> None:
    assert await served.ask("careful", "plain mail") == "looked at plain mail; not asked"
    run = (await served.get("/v1/runs"))["data"][0]["id"]

    assert await checkpoints(served, run) == []
    body = {"checkpoint_id": "any"}
    refused = await served.post(f"/v1/runs/{run}/fork", body, status=409)
    assert refused["details"]["code"] == "run_not_durable"


async def test_nobody_is_asked_while_a_caller_waits(served: Served) -> None:
    body = {"model": "careful", "messages": [{"role": "user", "content": "the inbox"}]}
    refused: httpx.Response = await served.http.post("/v1/chat/completions", json=body)

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "approval_needs_durable_run"
    assert "POST /v1/runs" in refused.json()["error"]["message"]
