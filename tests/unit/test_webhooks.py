import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from runtime.application.commands.webhooks import (
    ChangeWebhook,
    CreateWebhook,
    RotateWebhookSecret,
    TryWebhook,
    WebhookFields,
)
from runtime.application.handlers.webhooks import (
    MOST_WEBHOOKS,
    ChangeWebhookHandler,
    CreateWebhookHandler,
    RotateWebhookSecretHandler,
    TryWebhookHandler,
)
from runtime.application.services.webhooks.courier import Courier
from runtime.application.services.webhooks.events import agent_event, run_event
from runtime.application.services.webhooks.secrets import WebhookSecrets
from runtime.domain.entities.durable import Callback
from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook, WebhookScope
from runtime.domain.errors import (
    AgentNotFound,
    EgressRefused,
    Forbidden,
    InvalidValue,
    TooManyWebhooks,
    UpstreamTimeout,
)
from runtime.domain.services.webhooks import Answered
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.webhooks import (
    RETRY_AFTER_S,
    EventType,
    WebhookSecret,
    next_try,
    signed_headers,
)
from runtime.infrastructure.secrets import SecretBox
from tests.contracts.samples import ANN, NOON, PROJECT, a_line, a_run, a_version
from tests.contracts.test_webhooks import a_durable_run
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_webhooks import FakeReceiver, MemoryDeliveryQueue

EDITOR = Principal(ANN, PROJECT, frozenset({Role.EDITOR}))
URL = "https://hooks.example.com/"
RUNS = frozenset({"run.completed"})


class World:
    """Handlers and a courier over one memory, with a clock that is turned by hand."""

    def __init__(self) -> None:
        self.at = NOON
        self.store, self.published = MemoryStore(), Published()
        self.uow = partial(memory_unit_of_work, self.store, self.published)
        self.receiver = FakeReceiver()
        self.secrets = WebhookSecrets(SecretBox(b"k" * 32))
        parts = (self.uow, self.now, self.secrets, self.receiver)
        self.create = CreateWebhookHandler(*parts)
        self.change = ChangeWebhookHandler(*parts)
        self.rotate = RotateWebhookSecretHandler(*parts)
        self.attempt = TryWebhookHandler(*parts)
        self.courier = Courier(
            MemoryDeliveryQueue(self.store),
            self.receiver,
            self.secrets,
            self.now,
            chance=lambda: 0,
            poll_every_s=0.005,
        )

    def now(self) -> datetime:
        return self.at

    async def webhook(self, **fields: object) -> Webhook:
        command = CreateWebhook(actor=EDITOR, url=URL, types=RUNS, fields=WebhookFields())
        return (await self.create(replace(command, **fields))).webhook  # type: ignore[arg-type]

    async def ended(self, callback: Callback | None = None) -> None:
        durable = a_durable_run(callback=callback)
        event = run_event(a_run(id=durable.id), durable)
        async with self.uow(EDITOR.scope) as work:
            await work.webhooks.queue(replace(event, at=self.at))
            await work.commit()
        await self.courier.wake()

    @property
    def deliveries(self) -> list[Delivery]:
        return [each.delivery for each in self.store.tables.webhook_deliveries.values()]

    async def tried(self, times: int) -> Delivery:
        """The only delivery, once it has been tried so often."""
        for _ in range(1_000):
            (delivery,) = self.deliveries
            if delivery.attempts == times and not self.courier._going_on:
                return delivery
            await asyncio.sleep(0.002)
        raise AssertionError(f"{self.deliveries} was not tried {times} times")


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def delivering(world: World) -> AsyncIterator[None]:
    world.courier.start()
    try:
        yield
    finally:
        await world.courier.stop()


def test_a_signature_is_what_the_specification_says_it_is() -> None:
    secret = WebhookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1_614_265_330, UTC)
    body = b'{"test": 2432232314}'

    headers = signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_has_24_to_64_bytes_of_base64() -> None:
    for size in (24, 64):
        WebhookSecret("whsec_" + base64.b64encode(b"x" * size).decode())
    assert len(base64.b64decode(WebhookSecret.new().text.removeprefix("whsec_"))) == 32

    for wrong in (
        "",
        "whsec_!!!",
        "whsec_ü",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        *("whsec_" + base64.b64encode(b"x" * size).decode() for size in (23, 65)),
    ):
        with pytest.raises(InvalidValue) as refusal:
            WebhookSecret(wrong)
        assert wrong[6:] not in str(refusal.value) or not wrong


def test_tries_are_ever_further_apart_and_ten_in_all() -> None:
    waits = []
    for attempts in range(1, 10):
        again = next_try(attempts, NOON, asked_s=None, chance=0)
        assert again is not None
        waits.append((again - NOON).total_seconds())
    assert waits == list(RETRY_AFTER_S)
    assert next_try(10, NOON, asked_s=None, chance=0) is None
    assert next_try(1, NOON, asked_s=None, chance=1) == NOON + timedelta(seconds=5.5)


def test_a_receiver_may_ask_for_a_longer_wait_within_a_day() -> None:
    for asked, wait in ((1, 5), (60, 60), (10**9, 86_400)):
        again = next_try(1, NOON, asked_s=asked, chance=0)
        assert again == NOON + timedelta(seconds=wait)


def test_a_run_is_told_without_what_was_said_in_it() -> None:
    durable = a_durable_run()
    event = run_event(a_run(id=durable.id), durable, "ü" * 40_000)

    said = json.loads(event.body)
    assert said["type"] == "run.completed"
    assert said["timestamp"].endswith("Z")
    assert said["data"]["link"] == f"/v1/runs/{durable.id}"
    assert said["data"]["metadata"] == {"ticket": "½ \x00 \ud800"}
    assert "output" not in said["data"]
    full = json.loads(event.full_body)["data"]
    assert len(full["output"].encode()) == 65_536
    assert full["output_truncated"]
    assert event.body.isascii()


def test_an_agents_event_is_its_owners() -> None:
    agent = a_version(a_line())
    event = agent_event(EventType.AGENT_SUBMITTED, agent, NOON)

    assert (event.owner_id, event.line_id) == (agent.owner_id, agent.line_id)
    data = json.loads(event.body)["data"]
    assert (data["id"], data["link"]) == (agent.id, f"/v1/agents/{agent.id}")


async def test_an_event_is_sent_at_once_and_signed(world: World) -> None:
    webhook = await world.webhook()
    async with delivering(world):
        await world.ended()
        delivery = await world.tried(1)

    assert delivery.status is DeliveryStatus.DELIVERED
    (sent,) = world.receiver.sent
    signers = world.secrets.of(webhook, world.at)
    assert sent.headers == signed_headers(signers, delivery.id, world.at, sent.body)
    assert sent.url == URL


async def test_every_try_has_the_same_id_and_the_last_failure_is_final(world: World) -> None:
    await world.webhook()
    world.receiver.answer = lambda _: Answered(500, "Oops")
    async with delivering(world):
        await world.ended()
        for attempts in range(1, 10):
            delivery = await world.tried(attempts)
            assert delivery.next_at
            world.at = delivery.next_at
        delivery = await world.tried(10)

    assert delivery.status is DeliveryStatus.DEAD
    assert (delivery.status_code, delivery.error) == (500, "It answered 500.")
    assert (delivery.response, delivery.next_at) == ("Oops", None)
    assert {each.headers["webhook-id"] for each in world.receiver.sent} == {delivery.id}
    assert len({each.headers["webhook-signature"] for each in world.receiver.sent}) == 10


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
async def test_anything_but_2xx_is_a_failure(world: World, status: int) -> None:
    await world.webhook()
    world.receiver.answer = lambda _: Answered(status, "", retry_after_s=60)
    async with delivering(world):
        await world.ended()
        delivery = await world.tried(1)

    assert (delivery.status, delivery.status_code) == (DeliveryStatus.PENDING, status)
    assert delivery.next_at == world.at + timedelta(seconds=60)


async def test_an_endpoint_that_says_it_is_gone_is_left_alone(world: World) -> None:
    webhook = await world.webhook()
    world.receiver.answer = lambda _: Answered(410, "")
    async with delivering(world):
        await world.ended()
        delivery = await world.tried(1)
        await world.ended()

    assert delivery.status is DeliveryStatus.DEAD
    assert not world.store.tables.webhooks[webhook.id].enabled
    assert len(world.deliveries) == 1


async def test_what_waits_for_an_endpoint_that_was_disabled_is_not_sent(world: World) -> None:
    webhook = await world.webhook()
    await world.ended()
    await world.change(
        ChangeWebhook(actor=EDITOR, id=webhook.id, fields=WebhookFields(enabled=False))
    )
    async with delivering(world):
        delivery = await world.tried(1)

    assert (delivery.status, delivery.error) == (DeliveryStatus.DEAD, "The endpoint is disabled.")
    assert world.receiver.sent == []


async def test_a_callback_is_signed_if_it_has_a_secret(world: World) -> None:
    durable = a_durable_run()
    secret = WebhookSecret.new()
    for given in (secret.text, None):
        sealed = world.secrets.seal_callback(PROJECT, durable.id, given)
        run = replace(durable, callback=Callback(URL, sealed))
        event = replace(run_event(a_run(id=run.id), run), at=world.at)
        async with world.uow(EDITOR.scope) as work:
            await work.webhooks.queue(event)
            await work.commit()
    async with delivering(world):
        await world.receiver.received(2)

    assert sum("webhook-signature" in each.headers for each in world.receiver.sent) == 1


async def test_a_stopped_courier_gives_back_what_it_was_sending(world: World) -> None:
    await world.webhook()
    world.receiver.slow = lambda _: True
    async with delivering(world):
        await world.ended()
        await world.receiver.received(0, waiting=1)

    (delivery,) = world.deliveries
    assert (delivery.attempts, delivery.next_at) == (0, world.at)


async def test_a_slow_endpoint_holds_up_no_other(world: World) -> None:
    await world.webhook(url="https://slow.example.com/")
    quick = await world.webhook()
    for _ in range(40):
        await world.ended()
    world.receiver.slow = lambda url: "slow" in url
    async with delivering(world):
        await world.receiver.received(40, waiting=4)

    assert world.receiver.most_at_once == 4
    assert {each.url for each in world.receiver.sent} == {quick.url}


async def test_the_old_secret_signs_too_for_a_day(world: World) -> None:
    webhook = await world.webhook()
    before = world.secrets.of(webhook, world.at)
    rotated = await world.rotate(RotateWebhookSecret(actor=EDITOR, id=webhook.id))
    assert rotated.secret

    assert world.secrets.of(rotated.webhook, world.at) == [rotated.secret, *before]
    after = world.at + timedelta(hours=24)
    assert world.secrets.of(rotated.webhook, after) == [rotated.secret]


async def test_a_test_says_what_the_receiver_does(world: World) -> None:
    webhook = await world.webhook()
    command = TryWebhook(actor=EDITOR, id=webhook.id)
    assert (await world.attempt(command)).delivered
    assert json.loads(world.receiver.sent[0].body)["type"] == "webhook.test"

    world.receiver.answer = lambda _: Answered(302, "")
    trial = await world.attempt(command)
    assert (trial.delivered, trial.status_code) == (False, 302)
    assert trial.error == "It answered 302: redirects are not followed."

    def never(_: str) -> Answered:
        raise UpstreamTimeout("It did not answer in time.")

    world.receiver.answer = never
    trial = await world.attempt(command)
    assert (trial.delivered, trial.error) == (False, "It did not answer in time.")


async def test_who_may_not_read_a_thing_is_not_told_of_it(world: World) -> None:
    both = frozenset({"agent.published", "run.completed"})
    viewer = Principal(ANN, PROJECT)
    narrowed = replace(EDITOR, limited_to=frozenset({KeyScope.WEBHOOKS, KeyScope.RUNS_READ}))
    for refused in (
        {"actor": viewer},
        {"actor": replace(EDITOR, limited_to=frozenset({KeyScope.RUNS_READ}))},
        {"actor": narrowed, "types": both},
        {"actor": narrowed, "types": frozenset({"*"})},
        {"fields": WebhookFields(scope=WebhookScope.PROJECT)},
    ):
        with pytest.raises(Forbidden):
            await world.webhook(**refused)
    await world.webhook(actor=narrowed)
    webhook = await world.webhook()
    fields = WebhookFields(scope=WebhookScope.PROJECT)
    with pytest.raises(Forbidden):
        await world.change(ChangeWebhook(actor=EDITOR, id=webhook.id, fields=fields))


async def test_an_address_that_is_not_called_is_refused_at_once(world: World) -> None:
    webhook = await world.webhook()
    with pytest.raises(EgressRefused):
        await world.webhook(url="http://10.0.0.1/")
    fields = WebhookFields(url="http://10.0.0.1/")
    with pytest.raises(EgressRefused):
        await world.change(ChangeWebhook(actor=EDITOR, id=webhook.id, fields=fields))
    with pytest.raises(AgentNotFound):
        await world.webhook(fields=WebhookFields(agent="nobody"))


async def test_nobody_has_any_number_of_webhooks(world: World) -> None:
    for _ in range(MOST_WEBHOOKS):
        await world.webhook()
    with pytest.raises(TooManyWebhooks):
        await world.webhook()
