"""Who lives, as the queue sees it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.repositories.durable import Share, Ticket
from runtime.domain.services.liveness import KNOWN_TO_BE_GONE_S
from runtime.domain.value_objects.ids import WorkerId, new_worker_id
from runtime.infrastructure.liveness.beats import worker_beats
from runtime.infrastructure.liveness.heart import Heart
from runtime.infrastructure.liveness.processes import has_ended, this_process
from runtime.infrastructure.repositories.run_queue import SqlRunQueue
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.conftest import Connect
from tests.contracts.dispatching import an_order, comes, until
from tests.fakes import Published

ROOT = Path(__file__).parents[2]
EVERY_S, LEASE_S = 0.05, 0.25

MakeHeart = Callable[..., Awaitable[Heart]]


@pytest.fixture
async def make_heart(engine: AsyncEngine) -> AsyncIterator[MakeHeart]:
    async with AsyncExitStack() as opened:

        async def make(worker: WorkerId, on: AsyncEngine = engine) -> Heart:
            heart = Heart(worker_beats(on), worker, every_s=EVERY_S, lease_s=LEASE_S)
            await heart.start()
            opened.push_async_callback(heart.stop)
            return heart

        yield make


@pytest.fixture
def queue(engine: AsyncEngine) -> SqlRunQueue:
    return SqlRunQueue(engine)


async def claimed(engine: AsyncEngine, worker: WorkerId) -> Ticket:
    run = an_order()
    async with sql_unit_of_work(engine, Published(), run.scope) as work:
        await work.durable.add(run)
        await work.commit()
    ticket = await SqlRunQueue(engine).claim_one(worker, run.id, Share())
    assert ticket
    return ticket


async def rows(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT count(*) FROM workers"))


async def test_what_a_worker_has_that_beats_is_not_abandoned(
    engine: AsyncEngine, queue: SqlRunQueue, make_heart: MakeHeart
) -> None:
    worker = new_worker_id()
    heart = await make_heart(worker)
    heart.hold()
    await heart.felt()
    ticket = await claimed(engine, worker)
    assert await queue.abandoned(LEASE_S, limit=10) == []

    heart.release()
    await asyncio.sleep(2 * LEASE_S)
    assert await queue.abandoned(LEASE_S, limit=10) == [ticket]


async def test_a_blocked_event_loop_is_not_mistaken_for_death(
    engine: AsyncEngine, queue: SqlRunQueue, make_heart: MakeHeart
) -> None:
    worker = new_worker_id()
    heart = await make_heart(worker)
    heart.hold()
    await heart.felt()
    await claimed(engine, worker)

    time.sleep(2 * LEASE_S)  # noqa: ASYNC251 - that is what is tested
    assert await queue.abandoned(LEASE_S, limit=10) == []


async def test_what_a_worker_leaves_is_abandoned_at_once(
    engine: AsyncEngine, queue: SqlRunQueue, make_heart: MakeHeart
) -> None:
    worker = new_worker_id()
    heart = await make_heart(worker)
    heart.hold()
    await heart.felt()
    ticket = await claimed(engine, worker)

    await heart.stop()
    assert await queue.abandoned(KNOWN_TO_BE_GONE_S, limit=10) == [ticket]


@pytest.fixture
def neighbour(database_url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process, which beats for the worker `worker_next_door`."""
    with subprocess.Popen([sys.executable, "-c", BEATS, database_url], cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes can't be looked up")
async def test_a_killed_neighbour_is_known_to_be_gone_without_waiting(
    engine: AsyncEngine,
    queue: SqlRunQueue,
    make_heart: MakeHeart,
    neighbour: "subprocess.Popen[bytes]",
) -> None:
    await comes(partial(rows, engine))
    ticket = await claimed(engine, WorkerId("worker_next_door"))
    await make_heart(new_worker_id())
    neighbour.send_signal(signal.SIGSTOP)
    await asyncio.sleep(4 * EVERY_S)
    assert await queue.abandoned(KNOWN_TO_BE_GONE_S, limit=10) == []

    neighbour.kill()
    await comes(partial(queue.abandoned, KNOWN_TO_BE_GONE_S, limit=10))
    assert await queue.abandoned(KNOWN_TO_BE_GONE_S, limit=10) == [ticket]


async def test_a_worker_that_never_beat_has_nothing(
    engine: AsyncEngine, queue: SqlRunQueue
) -> None:
    ticket = await claimed(engine, new_worker_id())

    assert await queue.abandoned(KNOWN_TO_BE_GONE_S, limit=10) == [ticket]


async def test_an_idle_worker_writes_nothing(engine: AsyncEngine, make_heart: MakeHeart) -> None:
    heart = await make_heart(new_worker_id())
    await until(lambda: heart.beating_for_s > LEASE_S)

    assert await rows(engine) == 0


async def test_who_could_not_beat_itself_declares_nobody_dead_for_silence(
    make_heart: MakeHeart, connect: Connect
) -> None:
    away = await make_heart(new_worker_id(), connect("postgresql://nobody@127.0.0.1:1/nothing"))
    there = await make_heart(new_worker_id())
    assert there.silence_s == KNOWN_TO_BE_GONE_S
    away.hold()
    with pytest.raises(DatabaseUnavailable):
        await away.felt()

    await until(lambda: there.silence_s == LEASE_S)
    assert away.silence_s == KNOWN_TO_BE_GONE_S
    assert away.beating_for_s == 0


def test_a_process_is_told_from_the_one_that_gets_its_number() -> None:
    me = this_process()
    earlier = f"{me.rpartition(':')[0]}:1"
    elsewhere = f"another-boot:1:{os.getpid()}:1"

    assert not has_ended(me)
    assert has_ended(earlier) == bool(me)
    assert not has_ended(elsewhere)
    assert not has_ended("")


BEATS = """
import sys, time
from runtime.infrastructure.database import create_engine
from runtime.infrastructure.liveness.beats import worker_beats
beats = worker_beats(create_engine(sys.argv[1]))
while True:
    beats.beat("worker_next_door")
    time.sleep(0.05)
"""
