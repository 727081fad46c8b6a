"""A request under an `Idempotency-Key` orders one run, also when its first answer was lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import pytest

from runtime.application.services.durable.desk import RunDesk
from runtime.application.services.durable.endings import Endings
from runtime.application.services.durable.ordering import REQUEST, order_id
from runtime.domain.entities.durable import DurableRun, RunOrder
from runtime.domain.value_objects.identity import Principal, Role
from runtime.domain.value_objects.ids import AgentId, LineId, ProjectId, UserId
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_schedules import NotedDispatcher

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATE = datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC)
ANN = Principal(UserId("ann"), ProjectId("default"), frozenset({Role.VIEWER}))


@pytest.fixture
def desk() -> RunDesk:
    uow = partial(memory_unit_of_work, MemoryStore(), Published())
    return RunDesk(uow, NotedDispatcher(), cast(Endings, None), most_queued=2)


@contextmanager
def request(digest: bytes | None) -> Iterator[None]:
    token = REQUEST.set(digest)
    try:
        yield
    finally:
        REQUEST.reset(token)


async def order(desk: RunDesk, at: datetime) -> DurableRun:
    run = DurableRun(
        id=order_id(at),
        project_id=ANN.project_id,
        owner_id=ANN.user_id,
        agent_id=AgentId("agent_1"),
        line_id=LineId("line_1"),
        model="assistant",
        order=RunOrder(caller=ANN, messages=()),
        created_at=at,
    )
    return await desk.submit(run)


@pytest.mark.parametrize(("at", "again_after_s"), [(NOON, 0), (NOON, 60), (LATE, 15)])
async def test_a_request_that_comes_again_finds_what_it_has_ordered(
    desk: RunDesk, at: datetime, again_after_s: int
) -> None:
    with request(b"one" * 11):
        first = await order(desk, at)
        again = await order(desk, at + timedelta(seconds=again_after_s))
        # Also when there would be no room for another one.
        await order(desk, at)
    with request(b"two" * 11):
        other = await order(desk, at)

    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert other.id != first.id


async def test_without_a_key_every_request_orders_a_run_of_its_own(desk: RunDesk) -> None:
    with request(None):
        first, second = await order(desk, NOON), await order(desk, NOON)

    assert first.id != second.id
