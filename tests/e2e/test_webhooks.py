"""Webhooks over HTTP, and what a receiver on the loopback gets of them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from dependency_injector import providers
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from runtime.domain.value_objects.webhooks import EventType
from runtime.infrastructure.container import Container
from runtime.infrastructure.repositories.base import metadata
from runtime.infrastructure.repositories.secrets import Rotated, rotate
from runtime.infrastructure.secrets import SecretBox
from runtime.infrastructure.web.routes.webhook_messages import AgentMessage, RunMessage
from runtime.infrastructure.webhooks import EgressWebhookSender
from tests.e2e.receiver import Received, Receiver, never, receiving
from tests.e2e.server import Json, Served, serving

WEBHOOKS = "/v1/webhooks"
OWN_SECRET = "whsec_" + "Y2FuYXJ5" * 5
OLD_KEY, NEW_KEY = "the-old-key-of-the-runtime", "the-new-key-of-the-runtime"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, secret_key=OLD_KEY, allowed_egress=["127.0.0.1"]) as served:
        yield served


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def listen(runtime: Served, receiver: Receiver, **fields: object) -> Json:
    body = {"url": receiver.url, "events": ["agent.published"], **fields}
    return await runtime.post(WEBHOOKS, body, status=201)


def said(received: Received) -> Json:
    found: Json = json.loads(received.body)
    return found


def verify(received: Received, secret: str) -> Any:  # noqa: ANN401 - as the library has it
    """As the reference implementation does."""
    return Verifier(secret).verify(received.body, received.headers)


def verifies(received: Received, secret: str) -> bool:
    try:
        verify(received, secret)
    except WebhookVerificationError:
        return False
    return True


async def deliveries(runtime: Served, webhook: Json, **query: str) -> list[Json]:
    path = f"{WEBHOOKS}/{webhook['id']}/deliveries"
    found: list[Json] = (
        (await runtime.http.get(path, params=query)).raise_for_status().json()["data"]
    )
    return found


async def delivery(runtime: Served, webhook: Json, **fields: object) -> Json:
    """The only one, once it has these."""
    path = f"{WEBHOOKS}/{webhook['id']}/deliveries"
    found = await runtime.until(
        lambda page: bool(page["data"]) and fields.items() <= page["data"][0].items(), path
    )
    (only,) = found["data"]
    return dict(only)


async def test_an_agents_way_is_told_signed_as_the_standard_has_it(
    runtime: Served, receiver: Receiver
) -> None:
    webhook = await listen(
        runtime, receiver, events=["agent.submitted", "agent.published", "agent.revoked"]
    )
    agent = await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    await runtime.post(f"/v1/agents/{agent['id']}/revoke")
    received = await receiver.until(3)

    types = {said(each)["type"] for each in received}
    assert types == {"agent.submitted", "agent.published", "agent.revoked"}
    for each in received:
        assert verify(each, webhook["secret"])["data"]["id"] == agent["id"]
        assert not verifies(each, OWN_SECRET)
    assert len({each.id for each in received}) == 3
    every = await runtime.until(
        lambda page: all(each["status"] == "delivered" for each in page["data"]),
        f"{WEBHOOKS}/{webhook['id']}/deliveries",
    )
    assert {each["id"] for each in every["data"]} == {each.id for each in received}
    assert {each["last_status_code"] for each in every["data"]} == {204}


async def test_the_document_says_what_is_sent(runtime: Served, receiver: Receiver) -> None:
    described = (await runtime.get("/openapi.json"))["webhooks"]
    assert described.keys() == set(EventType)

    await listen(runtime, receiver, events=["*"], include_output=True)
    await runtime.post("/v1/runs", {"model": "assistant", "input": "Hi"}, status=202)
    await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    kinds = set()
    for each in await receiver.until(3):
        message = said(each)
        model = RunMessage if message["type"].startswith("run") else AgentMessage
        assert model.model_validate(message).data.model_fields_set == set(message["data"])
        kinds.add(model)
    assert len(kinds) == 2


async def test_a_refused_change_of_an_agent_is_told_to_nobody(
    runtime: Served, receiver: Receiver
) -> None:
    webhook = await listen(runtime, receiver, events=["*"])
    agent = await runtime.create(name="Bot", template_id="langgraph-simple-test")
    await runtime.post(f"/v1/agents/{agent['id']}/approve", status=409)

    assert await deliveries(runtime, webhook) == []


async def test_a_durable_run_is_told_where_it_asked_and_where_somebody_listens(
    runtime: Served, receiver: Receiver
) -> None:
    thin = await listen(runtime, receiver, events=["run.completed"])
    full = await listen(runtime, receiver, events=["*"], include_output=True)
    callback = {"url": receiver.url, "secret": OWN_SECRET}
    asked = {"model": "assistant", "input": "Hi", "metadata": {"ticket": "T-1"}}
    run = await runtime.post("/v1/runs", {**asked, "webhook": callback}, status=202)
    received = await receiver.until(3)

    outputs = {}
    for secret in (thin["secret"], full["secret"], OWN_SECRET):
        (mine,) = [each for each in received if verifies(each, secret)]
        outputs[secret] = said(mine)["data"].get("output")
    assert [bool(outputs[each]) for each in outputs] == [False, True, False]
    for each in received:
        data = said(each)["data"]
        assert (data["id"], data["status"]) == (run["id"], "completed")
        assert (data["link"], data["metadata"]) == (f"/v1/runs/{run['id']}", {"ticket": "T-1"})
        assert data["usage"]["total_tokens"] > 0


async def test_a_failed_delivery_comes_again_with_the_same_id(
    runtime: Served, receiver: Receiver
) -> None:
    receiver.answers(web.Response(status=500, text="Oops" * 1_000), 200)
    webhook = await listen(runtime, receiver)
    await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    failed = await delivery(runtime, webhook, last_status_code=500)

    assert (failed["status"], failed["attempts"]) == ("pending", 1)
    assert (failed["last_error"], failed["last_response"]) == ("It answered 500.", "Oops" * 125)
    assert (await runtime.get(f"{WEBHOOKS}/{webhook['id']}"))["failing_since"]
    await runtime.post(f"{WEBHOOKS}/{webhook['id']}/deliveries/{failed['id']}/retry")
    first, second = await receiver.until(2)
    assert first.id == second.id == failed["id"]
    assert first.body == second.body
    done = await delivery(runtime, webhook, status="delivered")
    assert (done["attempts"], done["next_at"], done["last_error"]) == (2, None, None)
    assert (await runtime.get(f"{WEBHOOKS}/{webhook['id']}"))["failing_since"] is None


async def test_after_the_last_try_a_delivery_is_dead_until_somebody_retries_it(
    runtime: Served, receiver: Receiver
) -> None:
    receiver.answers(*range(500, 510))
    webhook = await listen(runtime, receiver)
    await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    first = await delivery(runtime, webhook)
    path = f"{WEBHOOKS}/{webhook['id']}/deliveries/{first['id']}/retry"
    for status in range(500, 509):
        await delivery(runtime, webhook, status="pending", last_status_code=status)
        await runtime.post(path)

    dead = await delivery(runtime, webhook, status="dead")
    assert (dead["next_at"], dead["attempts"]) == (None, 10)
    assert await deliveries(runtime, webhook, status="pending") == []
    assert [each["id"] for each in await deliveries(runtime, webhook, status="dead")] == [
        dead["id"]
    ]
    assert (await runtime.post(path))["status"] == "pending"
    await delivery(runtime, webhook, status="delivered", attempts=11)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(
    runtime: Served, receiver: Receiver, status: int
) -> None:
    elsewhere = receiver.url.replace("/hook", "/elsewhere")
    receiver.answers(web.Response(status=status, headers={"Location": elsewhere}))
    webhook = await listen(runtime, receiver)
    trial = await runtime.post(f"{WEBHOOKS}/{webhook['id']}/test")

    assert (trial["delivered"], trial["status_code"]) == (False, status)
    assert "redirects are not followed" in trial["error"]
    assert len(receiver.received) == 1


async def test_a_receiver_that_says_nothing_is_a_failure(tmp_path: Path) -> None:
    async with serving(tmp_path, allowed_egress=["127.0.0.1"]) as runtime, receiving() as receiver:
        _hurry(runtime.container)
        receiver.script.append(never)
        webhook = await listen(runtime, receiver)
        trial = await runtime.post(f"{WEBHOOKS}/{webhook['id']}/test")

        assert (trial["delivered"], trial["status_code"]) == (False, None)
        assert "did not answer in time" in trial["error"]


def _hurry(container: Container) -> None:
    sender = EgressWebhookSender(container.egress(), timeout_s=0.1)
    container.webhook_sender.override(providers.Object(sender))


async def test_a_long_or_compressed_answer_of_2xx_is_a_delivery(
    runtime: Served, receiver: Receiver
) -> None:
    receiver.answers(
        web.Response(text="x" * 1_000_000),
        web.Response(body=b"\x1f\x8b garbage", headers={"Content-Encoding": "gzip"}),
        web.Response(body=b"\x00\xff\xfe"),
    )
    webhook = await listen(runtime, receiver)
    trials = [await runtime.post(f"{WEBHOOKS}/{webhook['id']}/test") for _ in range(3)]

    assert [each["delivered"] for each in trials] == [True, True, True]
    assert [len(each["response"]) for each in trials] == [500, 0, 3]


async def test_an_endpoint_that_is_gone_is_disabled_until_it_is_enabled(
    runtime: Served, receiver: Receiver
) -> None:
    receiver.answers(410)
    webhook = await listen(runtime, receiver)
    await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    await delivery(runtime, webhook, status="dead")

    path = f"{WEBHOOKS}/{webhook['id']}"
    gone = await runtime.get(path)
    assert (gone["enabled"], gone["disabled_reason"]) == (False, "It answered 410 Gone.")
    await runtime.publish(name="Other", template_id="langgraph-simple-test")
    assert len(await deliveries(runtime, webhook)) == 1
    enabled = (await runtime.http.patch(path, json={"enabled": True})).json()
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    await runtime.publish(name="Third", template_id="langgraph-simple-test")
    await receiver.until(2)


async def test_while_a_secret_is_rotated_either_verifies(
    runtime: Served, receiver: Receiver
) -> None:
    webhook = await listen(runtime, receiver, secret=OWN_SECRET)
    assert webhook["secret"] is None
    path = f"{WEBHOOKS}/{webhook['id']}"
    rotated = await runtime.post(f"{path}/rotate_secret")
    assert rotated["previous_secret_until"]
    await runtime.post(f"{path}/test")

    (received,) = await receiver.until(1)
    for secret in (OWN_SECRET, rotated["secret"]):
        assert verify(received, secret)["type"] == "webhook.test"
    assert len(received.headers["webhook-signature"].split()) == 2
    again = await runtime.post(f"{path}/rotate_secret", {"secret": OWN_SECRET})
    assert again["secret"] is None


async def test_secrets_are_shown_once_and_stored_sealed_under_the_newest_key(
    runtime: Served, receiver: Receiver
) -> None:
    webhook = await listen(runtime, receiver)
    rotated = await runtime.post(f"{WEBHOOKS}/{webhook['id']}/rotate_secret")
    shown = [await runtime.get(WEBHOOKS), await runtime.get(f"{WEBHOOKS}/{webhook['id']}")]
    engine = runtime.container.engine()
    async with engine.connect() as connection:
        rows = [(await connection.execute(select(each))).all() for each in metadata.sorted_tables]

    for secret in (webhook["secret"], rotated["secret"]):
        assert secret.startswith("whsec_")
        assert secret not in f"{shown}{rows}"
    callback = {"url": receiver.url, "secret": OWN_SECRET}
    later = {"model": "assistant", "input": "Hi", "not_before": "2100-01-01T00:00:00Z"}
    await runtime.post("/v1/runs", {**later, "webhook": callback}, status=202)
    await runtime.post("/v1/runs", {**later, "webhook": {"url": receiver.url}}, status=202)
    box = SecretBox(NEW_KEY.encode(), [OLD_KEY.encode()])
    assert await rotate(engine, box) == Rotated(renewed=3)
    assert await rotate(engine, box) == Rotated(current=3)
    await runtime.post(f"{WEBHOOKS}/{webhook['id']}/test", status=500)


async def test_only_addresses_that_may_be_called_are_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as runtime:
        for url in (
            "http://127.0.0.1:9/",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "ftp://example.com/",
            "https://ann:secret@example.com/",
            "nonsense",
            "http://",
        ):
            body = {"url": url, "events": ["*"]}
            refusal = await runtime.post(WEBHOOKS, body, status=403)
            assert refusal["details"]["code"] == "egress_refused"
        made = await runtime.post(
            WEBHOOKS, {"url": "https://example.com/", "events": ["*"]}, status=201
        )
        path = f"{WEBHOOKS}/{made['id']}"
        refused = await runtime.http.patch(path, json={"url": "http://10.0.0.1/"})
        assert refused.status_code == 403


async def test_a_webhook_is_read_changed_and_deleted(runtime: Served, receiver: Receiver) -> None:
    agent = await runtime.publish(name="Bot", template_id="langgraph-simple-test")
    made = await listen(runtime, receiver, agent=agent["slug"], description="Mine")
    assert made["agent_line_id"] == agent["agent_line_id"]
    path = f"{WEBHOOKS}/{made['id']}"
    assert (await runtime.get(path)).items() <= made.items()
    assert [each["id"] for each in (await runtime.get(WEBHOOKS))["data"]] == [made["id"]]

    changes = {"events": ["*", "run.failed"], "agent": None, "scope": "project"}
    changed = (await runtime.http.patch(path, json=changes)).raise_for_status().json()
    assert (changed["events"], changed["agent_line_id"]) == (["*"], None)
    assert (changed["scope"], changed["description"]) == ("project", "Mine")

    assert (await runtime.http.delete(path)).json() == {"id": made["id"], "deleted": True}
    assert (await runtime.get(path, status=404))["details"]["code"] == "webhook_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", ""),
        ("url", "https://example.com/" + "x" * 2_048),
        ("events", []),
        ("events", ["run.started"]),
        ("events", "run.completed"),
        ("secret", "hunter2"),
        ("secret", "whsec_c2hvcnQ="),
        ("description", "x" * 501),
        ("scope", "everything"),
        ("include_output", "yes"),
        ("color", "blue"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    runtime: Served, receiver: Receiver, field: str, value: object
) -> None:
    body = {"url": receiver.url, "events": ["*"], field: value}
    refusal = await runtime.post(WEBHOOKS, body, status=400)
    assert field in refusal["message"] or refusal["details"]["param"] == field
