import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from runtime.application.services.webhooks.events import agent_event, run_event, waiting_event
from runtime.domain.entities.durable import Callback, DurableRun, RunOrder
from runtime.domain.entities.webhooks import Delivery, DeliveryStatus, Webhook, WebhookScope
from runtime.domain.errors import (
    ConcurrentChange,
    DeliveryNotFound,
    InvalidValue,
    WebhookNotFound,
)
from runtime.domain.events.webhooks import DeliveriesQueued
from runtime.domain.repositories.webhooks import Claimed, Tried
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import Principal, Scope
from runtime.domain.value_objects.ids import LineId, WebhookId, new_webhook_id
from runtime.domain.value_objects.webhooks import NOTHING_WELL, EventType, WebhookEvent
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_line,
    a_run,
    a_version,
    all_of,
    minutes_past_noon,
)

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
LATER = minutes_past_noon(1)
LEASE = timedelta(seconds=30)
ANYTHING = frozenset({"*"})
DELIVERED = Tried(status=DeliveryStatus.DELIVERED, status_code=204, response="")


def a_webhook(**changes: Any) -> Webhook:  # noqa: ANN401 - a webhook's fields
    webhook = Webhook(
        id=new_webhook_id(),
        project_id=PROJECT,
        owner_id=ANN,
        url="https://hooks.example.com/ü?a=b",
        types=frozenset({"run.completed", "run.failed"}),
        secret_sealed="sealed",
        created_at=NOON,
        updated_at=NOON,
    )
    for name, value in changes.items():
        setattr(webhook, name, value)
    return webhook


async def keep(uow: UnitOfWorkFactory, *webhooks: Webhook) -> None:
    for webhook in webhooks:
        async with uow(all_of(webhook.project_id)) as work:
            await work.webhooks.add(webhook)
            await work.commit()


def a_durable_run(**changes: Any) -> DurableRun:  # noqa: ANN401 - a run's fields
    run = a_run()
    durable = DurableRun(
        id=run.id,
        project_id=run.project_id,
        owner_id=run.owner_id,
        agent_id=run.agent_id,
        line_id=run.line_id,
        model=run.model,
        order=RunOrder(
            caller=Principal(ANN, PROJECT), messages=[], metadata={"ticket": "½ \x00 \ud800"}
        ),
        created_at=NOON,
    )
    return replace(durable, **changes)


def an_ended_run(output: str | None = None, **changes: Any) -> WebhookEvent:  # noqa: ANN401
    durable = a_durable_run(**changes)
    return replace(run_event(a_run(id=durable.id), durable, output), at=NOON)


async def queue(uow: UnitOfWorkFactory, *events: WebhookEvent, scope: Scope = ANNS) -> None:
    async with uow(scope) as work:
        for event in events:
            await work.webhooks.queue(event)
        await work.commit()


async def claim(
    storage: Storage,
    at: datetime = LATER,
    *,
    room: int = 32,
    per_target: int = 4,
    going_on: dict[str, int] | None = None,
) -> Sequence[Claimed]:
    return await storage.delivery_queue.claim(
        at, at + LEASE, room=room, per_target=per_target, going_on=going_on or {}
    )


async def deliveries(
    uow: UnitOfWorkFactory, webhook: Webhook, status: DeliveryStatus | None = None
) -> Sequence[Delivery]:
    async with uow(all_of(webhook.project_id)) as work:
        return (await work.webhooks.deliveries(webhook.id, status, limit=100, after=None)).items


def later(**span: float) -> datetime:
    return LATER + timedelta(**span)


async def read(uow: UnitOfWorkFactory, id: WebhookId, scope: Scope = ALL) -> Webhook:
    async with uow(scope) as work:
        return await work.webhooks.get(id)


async def test_a_webhook_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    plain = a_webhook()
    full = a_webhook(
        types=ANYTHING,
        line_id=LineId("line_1"),
        scope=WebhookScope.PROJECT,
        description="Tells 👍",
        enabled=False,
        include_output=True,
        previous_sealed="older",
        previous_until=LATER,
        failing_since=NOON,
        disabled_reason="Why",
    )
    await keep(uow, plain, full)

    for webhook in (plain, full):
        assert vars(await read(uow, webhook.id)) == vars(webhook)


async def test_a_change_is_refused_once_somebody_else_was_first(uow: UnitOfWorkFactory) -> None:
    webhook = a_webhook()
    await keep(uow, webhook)
    stale = await read(uow, webhook.id)
    async with uow(ANNS) as work:
        mine = await work.webhooks.get(webhook.id)
        mine.url = "https://other.example.com/"
        await work.webhooks.save(mine)
        await work.commit()

    assert (await read(uow, webhook.id)).url == mine.url
    async with uow(ANNS) as work:
        with pytest.raises(ConcurrentChange):
            await work.webhooks.save(stale)
        with pytest.raises(ConcurrentChange):
            await work.webhooks.remove(stale)


async def test_others_do_not_see_it_and_admins_do(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run())
    (delivery,) = await deliveries(storage.uow, webhook)

    for scope in (BOBS, replace(BOBS, sees_all=True), all_of(OTHER_PROJECT)):
        async with storage.uow(scope) as work:
            assert (await work.webhooks.page(limit=5, after=None)).items == []
            found = await work.webhooks.deliveries(webhook.id, None, limit=5, after=None)
            assert found.items == []
            with pytest.raises(WebhookNotFound):
                await work.webhooks.get(webhook.id)
            with pytest.raises(DeliveryNotFound):
                await work.webhooks.try_again(webhook.id, delivery.id, LATER)
    assert (await read(storage.uow, webhook.id, all_of(PROJECT, BOB))).url == webhook.url


async def test_only_ones_own_are_counted(uow: UnitOfWorkFactory) -> None:
    foreign = a_webhook(project_id=OTHER_PROJECT)
    await keep(uow, a_webhook(), a_webhook(), a_webhook(owner_id=BOB), foreign)

    async with uow(ALL) as work:
        assert await work.webhooks.count_own() == 2


async def test_webhooks_are_listed_newest_first_page_by_page(uow: UnitOfWorkFactory) -> None:
    made = [a_webhook(created_at=minutes_past_noon(n // 2)) for n in range(5)]
    await keep(uow, *made)

    found: list[str] = []
    after = None
    while True:
        async with uow(ANNS) as work:
            page = await work.webhooks.page(limit=2, after=after)
        found += [each.id for each in page.items]
        after = page.next_cursor
        if after is None:
            break
    assert found == [each.id for each in made][::-1]
    async with uow(ANNS) as work:
        with pytest.raises(InvalidValue):
            await work.webhooks.page(limit=2, after="nonsense")


async def test_an_event_reaches_who_wants_it_and_may_see_it(storage: Storage) -> None:
    wanting = {
        "own": a_webhook(),
        "everything": a_webhook(types=ANYTHING),
        "of the agent": a_webhook(line_id=LineId("line_1")),
        "the admin's": a_webhook(owner_id=BOB, scope=WebhookScope.PROJECT),
    }
    others = (
        a_webhook(owner_id=BOB),
        a_webhook(types=frozenset({"run.cancelled"})),
        a_webhook(line_id=LineId("line_2")),
        a_webhook(enabled=False),
        a_webhook(project_id=OTHER_PROJECT, types=ANYTHING, scope=WebhookScope.PROJECT),
    )
    await keep(storage.uow, *wanting.values(), *others)
    await queue(storage.uow, an_ended_run())

    for webhook in others:
        assert await deliveries(storage.uow, webhook) == []
    for webhook in wanting.values():
        (delivery,) = await deliveries(storage.uow, webhook)
        assert (delivery.owner_id, delivery.type) == (webhook.owner_id, "run.completed")
        assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
    claimed = await claim(storage)
    assert {each.webhook.id for each in claimed if each.webhook} == {
        each.id for each in wanting.values()
    }
    assert len({each.id for each in claimed}) == len(wanting)


async def test_only_who_asked_for_it_gets_the_output(storage: Storage) -> None:
    thin, full = a_webhook(), a_webhook(include_output=True)
    await keep(storage.uow, thin, full)
    await queue(storage.uow, an_ended_run(output="A secret recipe \x00 \ud800"))

    bodies = {each.target: each.body for each in await claim(storage)}
    assert "recipe" not in bodies[thin.id]
    assert "recipe" in bodies[full.id]


async def test_what_did_not_happen_is_not_told(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    storage.published.clear()
    async with storage.uow(ANNS) as work:
        await work.webhooks.queue(an_ended_run(callback=Callback("https://a.example.com/", "")))

    assert await deliveries(storage.uow, webhook) == []
    assert await claim(storage) == []
    assert storage.published == []


async def test_the_courier_is_told_after_the_commit_and_only_of_something(
    storage: Storage,
) -> None:
    await queue(storage.uow, an_ended_run())
    assert storage.published == []

    await keep(storage.uow, a_webhook())
    await queue(storage.uow, an_ended_run())
    assert storage.published == [DeliveriesQueued()]


async def test_a_run_is_told_of_at_its_own_callback_too(storage: Storage) -> None:
    callback = Callback("https://a.example.com:8443/done", "sealed")
    event = an_ended_run(callback=callback)
    await queue(storage.uow, event)

    (claimed,) = await claim(storage)
    assert claimed.webhook is None
    assert (claimed.url, claimed.callback_sealed) == (callback.url, "sealed")
    assert event.callback
    assert claimed.run_id == event.callback.run
    assert claimed.body == event.body
    assert claimed.target == "callback a.example.com:8443"
    assert await storage.delivery_queue.finish(claimed, DELIVERED, LATER)
    assert await claim(storage, later(days=1)) == []


async def test_agents_and_pauses_are_events_as_well(storage: Storage) -> None:
    await keep(storage.uow, a_webhook(types=frozenset({"agent.published", "run.waiting"})))
    agent = a_version(a_line())
    await queue(
        storage.uow,
        agent_event(EventType.AGENT_PUBLISHED, agent, NOON),
        agent_event(EventType.AGENT_REVOKED, agent, NOON),
        waiting_event(a_durable_run(), NOON),
    )

    bodies = sorted(each.body for each in await claim(storage))
    assert [body[:26] for body in bodies] == [
        '{"type":"agent.published",',
        '{"type":"run.waiting","tim',
    ]


async def test_a_delivery_is_nobody_elses_until_its_lease_lapses(storage: Storage) -> None:
    await keep(storage.uow, a_webhook())
    await queue(storage.uow, an_ended_run())
    (first,) = await claim(storage)

    assert await claim(storage, later(seconds=29)) == []
    (second,) = await claim(storage, later(seconds=30))
    assert (second.id, second.attempt) == (first.id, 2)
    assert not await storage.delivery_queue.finish(first, DELIVERED, later(seconds=31))
    assert await storage.delivery_queue.finish(second, DELIVERED, later(seconds=31))
    assert not await storage.delivery_queue.finish(second, DELIVERED, later(seconds=32))


async def test_couriers_who_claim_at_once_never_get_the_same(storage: Storage) -> None:
    await keep(storage.uow, *(a_webhook() for _ in range(10)))
    await queue(storage.uow, an_ended_run(), an_ended_run())

    async def courier() -> list[str]:
        mine: list[str] = []
        while claimed := await claim(storage, room=3):
            mine += [each.id for each in claimed]
        return mine

    claimed = [id for each in await asyncio.gather(*(courier() for _ in range(4))) for id in each]
    assert len(claimed) <= len(set(claimed)) == 20


async def test_one_endpoint_does_not_take_the_room_of_others(storage: Storage) -> None:
    flooded, quiet = a_webhook(), a_webhook(types=frozenset({"run.waiting"}))
    await keep(storage.uow, flooded, quiet)
    await queue(storage.uow, *(an_ended_run() for _ in range(6)))
    late = replace(waiting_event(a_durable_run(), LATER), at=LATER)
    await queue(storage.uow, late)

    first = await claim(storage)
    assert sorted(each.target for each in first) == sorted([flooded.id] * 4 + [quiet.id])
    assert await claim(storage, going_on={flooded.id: 4, quiet.id: 1}) == []
    (next_one,) = await claim(storage, going_on={flooded.id: 3})
    assert next_one.target == flooded.id


async def test_the_oldest_are_claimed_first(storage: Storage) -> None:
    await keep(storage.uow, *(a_webhook() for _ in range(3)))
    new, old = an_ended_run(), replace(an_ended_run(), at=NOON - timedelta(hours=1))
    await queue(storage.uow, new, old)

    claimed = await claim(storage, room=3)
    assert {each.id[4:36] for each in claimed} == {old.id}


async def test_a_failed_delivery_comes_again_when_it_is_due(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run())
    (claimed,) = await claim(storage)
    tried = Tried(
        status=DeliveryStatus.PENDING,
        next_at=later(minutes=5),
        status_code=500,
        error="It answered 500.",
        response="Oops",
    )
    assert await storage.delivery_queue.finish(claimed, tried, LATER)

    (delivery,) = await deliveries(storage.uow, webhook, DeliveryStatus.PENDING)
    shown = (delivery.attempts, delivery.status_code, delivery.error, delivery.response)
    assert shown == (1, 500, "It answered 500.", "Oops")
    assert (delivery.next_at, delivery.ended_at) == (later(minutes=5), None)
    assert (await read(storage.uow, webhook.id)).failing_since == LATER
    assert await claim(storage, later(minutes=4)) == []
    (again,) = await claim(storage, later(minutes=5))
    await storage.delivery_queue.finish(again, DELIVERED, later(minutes=5))
    assert (await read(storage.uow, webhook.id)).failing_since is None
    assert len(await deliveries(storage.uow, webhook, DeliveryStatus.DELIVERED)) == 1
    assert await deliveries(storage.uow, webhook, DeliveryStatus.DEAD) == []


async def test_an_endpoint_that_fails_for_days_is_disabled(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    failed = Tried(status=DeliveryStatus.PENDING, next_at=LATER, error="It answered 500.")
    for days in (0, 4.9, 5):
        assert (await read(storage.uow, webhook.id)).enabled
        await queue(storage.uow, an_ended_run())
        (claimed, *_) = await claim(storage, later(days=days))
        await storage.delivery_queue.finish(claimed, failed, later(days=days))

    disabled = await read(storage.uow, webhook.id)
    assert (disabled.enabled, disabled.disabled_reason) == (False, NOTHING_WELL)
    assert disabled.failing_since == LATER
    with pytest.raises(ConcurrentChange):
        async with storage.uow(ANNS) as work:
            await work.webhooks.save(webhook)


async def test_an_endpoint_that_is_gone_is_disabled_at_once(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run())
    (claimed,) = await claim(storage)
    gone = Tried(status=DeliveryStatus.DEAD, status_code=410, disable="It answered 410 Gone.")
    await storage.delivery_queue.finish(claimed, gone, LATER)

    disabled = await read(storage.uow, webhook.id)
    assert (disabled.enabled, disabled.disabled_reason) == (False, "It answered 410 Gone.")
    (dead,) = await deliveries(storage.uow, webhook, DeliveryStatus.DEAD)
    assert dead.ended_at == LATER


async def test_what_was_not_sent_says_nothing_of_the_endpoint(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run())
    (claimed,) = await claim(storage)
    unsent = Tried(status=DeliveryStatus.DEAD, error="The endpoint is disabled.", sent=False)
    await storage.delivery_queue.finish(claimed, unsent, LATER)

    assert (await read(storage.uow, webhook.id)).failing_since is None


async def test_what_is_given_back_is_due_at_once(storage: Storage) -> None:
    await keep(storage.uow, a_webhook())
    await queue(storage.uow, an_ended_run())
    first = await claim(storage)
    await storage.delivery_queue.give_back(first, LATER)

    (again,) = await claim(storage)
    assert (again.id, again.attempt) == (first[0].id, 1)


async def test_a_dead_delivery_is_tried_again_by_hand(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run())
    (claimed,) = await claim(storage)
    dead = Tried(status=DeliveryStatus.DEAD, error="It answered 500.")
    await storage.delivery_queue.finish(claimed, dead, LATER)
    storage.published.clear()
    async with storage.uow(ANNS) as work:
        again = await work.webhooks.try_again(webhook.id, claimed.id, LATER)
        await work.commit()

    assert (again.status, again.next_at) == (DeliveryStatus.PENDING, LATER)
    assert storage.published == [DeliveriesQueued()]
    (retried,) = await claim(storage)
    assert (retried.id, retried.attempt) == (claimed.id, 2)
    async with storage.uow(ANNS) as work:
        with pytest.raises(DeliveryNotFound):
            await work.webhooks.try_again(new_webhook_id(), claimed.id, LATER)


async def test_a_webhook_takes_its_deliveries_with_it(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run(), an_ended_run())
    (claimed, _) = await claim(storage)
    async with storage.uow(ANNS) as work:
        await work.webhooks.remove(await work.webhooks.get(webhook.id))
        await work.commit()

    assert not await storage.delivery_queue.finish(claimed, DELIVERED, LATER)
    assert await claim(storage, later(days=1)) == []
    assert await deliveries(storage.uow, webhook) == []


async def test_deliveries_are_listed_newest_first_page_by_page(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    events = [replace(an_ended_run(), at=minutes_past_noon(n // 2)) for n in range(5)]
    await queue(storage.uow, *events)

    found: list[str] = []
    after = None
    while True:
        async with storage.uow(ANNS) as work:
            page = await work.webhooks.deliveries(webhook.id, None, limit=2, after=after)
        found += [each.id[4:36] for each in page.items]
        after = page.next_cursor
        if after is None:
            break
    assert found == [each.id for each in events][::-1]


async def test_old_deliveries_are_pruned_once_they_have_ended(storage: Storage) -> None:
    webhook = a_webhook()
    await keep(storage.uow, webhook)
    await queue(storage.uow, an_ended_run(), an_ended_run(), an_ended_run())
    old, young, _ = await claim(storage)
    await storage.delivery_queue.finish(old, DELIVERED, NOON)
    await storage.delivery_queue.finish(young, DELIVERED, LATER)

    assert await storage.delivery_pruner.prune(LATER) == 1
    assert len(await deliveries(storage.uow, webhook)) == 2
