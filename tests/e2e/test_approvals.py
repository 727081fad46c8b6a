"""Tools that wait for a person, in a running server."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.tools import tool
from tests.e2e.server import Json, Served, serving

paid: list[int] = []


@tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay out."""
    paid.append(amount)
    return f"paid {amount}"


@tool(needs_approval="reviewer")
def erase(account: str) -> str:
    """Erase an account."""
    return f"erased {account}"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    paid.clear()
    async with serving(tmp_path, tools=[pay, erase]) as served:
        await served.publish(
            name="Cashier",
            template_id="react-agent",
            template_config={"tools": ["pay", "erase", "calculator"]},
        )
        yield served


async def waiting(runtime: Served, said: str = 'pay {"amount": 40}') -> tuple[str, Json]:
    """The run, and what it waits for."""
    run = await runtime.post("/v1/runs", {"model": "cashier", "input": said}, status=202)
    path = f"/v1/runs/{run['id']}"
    await runtime.until(lambda found: found["status"] == "waiting", path)
    (asked,) = (await runtime.get(f"{path}/approvals"))["data"]
    return path, asked


async def ended(runtime: Served, path: str) -> Json:
    return await runtime.until(lambda found: found["ended_at"] is not None, path)


async def test_a_run_waits_and_goes_on_with_what_was_approved(runtime: Served) -> None:
    path, asked = await waiting(runtime)
    assert (asked["kind"], asked["tool"], asked["status"]) == ("tool", "pay", "pending")
    assert (asked["arguments"], asked["approver"]) == ({"amount": 40}, "owner")
    assert paid == []
    pending = (await runtime.get("/v1/approvals?status=pending"))["data"]
    assert [each["id"] for each in pending] == [asked["id"]]
    (call,) = (await runtime.get(f"{path}/tool_calls"))["data"]
    assert (call["name"], call["status"], call["output"]) == ("pay", "asked", None)

    word = {"decision": "approve", "arguments_hash": asked["arguments_hash"]}
    decided = await runtime.post(f"{path}/approvals/{asked['id']}", word)
    assert (decided["status"], decided["decided_by"]) == ("decided", "local")
    run = await ended(runtime, path)
    assert (run["status"], paid) == ("completed", [40])
    (call,) = (await runtime.get(f"{path}/tool_calls"))["data"]
    assert (call["status"], call["output"], call["arguments"]) == (
        "success",
        "paid 40",
        {"amount": 40},
    )
    steps = (await runtime.get(f"{path}/steps"))["data"]
    assert [step["status"] for step in steps] == ["success"] * len(steps)
    assert (steps[0]["attempt"], steps[-1]["attempt"]) == (1, 2)
    assert (await runtime.get("/v1/approvals?status=pending"))["data"] == []
    assert await runtime.post(f"{path}/approvals/{asked['id']}", word) == decided


async def test_a_rejection_reaches_the_model_and_the_log(runtime: Served) -> None:
    path, asked = await waiting(runtime)
    word = {"decision": "reject", "reason": "Not today."}
    await runtime.post(f"{path}/approvals/{asked['id']}", word)
    await ended(runtime, path)

    assert paid == []
    response = await runtime.http.get(f"{path}/events", headers={"Accept": "application/json"})
    events = {event["type"]: event for event in response.json()["data"]}
    assert events["approval.requested"]["approval_id"] == asked["id"]
    assert events["approval.decided"]["reason"] == "Not today."
    assert events["tool.result"]["output"] == (
        "The call of 'pay' was rejected by local: Not today."
    )


MISFITS: list[tuple[Json, int, str]] = [
    ({"decision": "edit", "arguments": {"amount": "much"}}, 422, "arguments_refused"),
    ({"decision": "edit"}, 400, "invalid_value"),
    ({"decision": "approve", "arguments": {"amount": 1}}, 400, "invalid_value"),
    ({"decision": "approve", "value": 1}, 400, "invalid_value"),
    ({"decision": "approve", "arguments_hash": "0" * 64}, 409, "approval_changed"),
    ({"decision": "approve", "reason": "x" * 4_001}, 400, "invalid_request"),
    ({"decision": "approve", "reason": "\0"}, 400, "invalid_request"),
    ({"decision": "perhaps"}, 400, "invalid_request"),
    ({}, 400, "invalid_request"),
]


async def test_a_word_that_does_not_fit_changes_nothing(runtime: Served) -> None:
    path, asked = await waiting(runtime)

    for word, status, code in MISFITS:
        refused = await runtime.post(f"{path}/approvals/{asked['id']}", word, status=status)
        assert refused["details"]["code"] == code, word
    assert (await runtime.get(path))["status"] == "waiting"
    assert paid == []


async def test_a_decision_stands(runtime: Served) -> None:
    path, asked = await waiting(runtime)
    await runtime.post(f"{path}/approvals/{asked['id']}", {"decision": "approve"})

    other = {"decision": "reject"}
    refused = await runtime.post(f"{path}/approvals/{asked['id']}", other, status=409)
    assert refused["details"]["code"] == "approval_decided"


async def test_a_run_that_was_cancelled_takes_no_word(runtime: Served) -> None:
    path, asked = await waiting(runtime)
    await runtime.post(f"{path}/cancel")

    refused = await runtime.post(
        f"{path}/approvals/{asked['id']}", {"decision": "approve"}, status=409
    )
    assert refused["details"]["code"] == "run_not_waiting"
    assert paid == []


async def test_who_waits_for_an_answer_is_told_to_order_a_run(runtime: Served) -> None:
    call = {"model": "cashier", "messages": [{"role": "user", "content": 'pay {"amount": 40}'}]}

    refused = await runtime.post("/v1/chat/completions", call, status=409)
    assert refused["error"]["code"] == "approval_needs_durable_run"
    assert paid == []


async def test_the_local_admin_may_review_what_they_ordered(runtime: Served) -> None:
    path, asked = await waiting(runtime, 'erase {"account": "ann"}')
    assert asked["approver"] == "reviewer"

    await runtime.post(f"{path}/approvals/{asked['id']}", {"decision": "approve"})
    assert (await ended(runtime, path))["status"] == "completed"


async def test_calls_of_a_run_that_was_not_durable_are_in_its_record(runtime: Served) -> None:
    await runtime.ask("cashier", "What is 6 * 7?")
    (run,) = (await runtime.get("/v1/runs"))["data"]

    (call,) = (await runtime.get(f"/v1/runs/{run['id']}/tool_calls"))["data"]
    assert (call["name"], call["status"], call["call_id"]) == ("calculator", "success", None)
    assert (await runtime.get(f"/v1/runs/{run['id']}/approvals"))["data"] == []


async def typed(runtime: Served, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "agent-runtime",
        *("approvals", *words, "--url", runtime.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return " ".join(out.decode().split())


async def test_a_word_can_be_given_on_the_command_line(runtime: Served) -> None:
    path, asked = await waiting(runtime)
    assert "pay amount: 40" in await typed(runtime, "list")

    assert "no JSON" in await typed(runtime, "edit", asked["id"], "--arguments", "{")
    assert "amount" in await typed(runtime, "edit", asked["id"], "--arguments", "{}")
    said = await typed(runtime, "edit", asked["id"], "--arguments", '{"amount": 30}')
    assert said.endswith(": edit.")
    assert ((await ended(runtime, path))["status"], paid) == ("completed", [30])
    assert asked["id"] not in await typed(runtime, "list")
    assert "edit" in await typed(runtime, "list", "--all")
    assert "does not exist" in await typed(runtime, "reject", "appr_0")


async def test_tools_say_what_they_are(runtime: Served) -> None:
    tools = (await runtime.get("/api/tools"))["data"]["items"]

    told = {tool["name"]: (tool["read_only"], tool["needs_approval"]) for tool in tools}
    assert told["pay"] == (False, "owner")
    assert told["erase"] == (False, "reviewer")
    assert told["calculator"] == (True, None)
