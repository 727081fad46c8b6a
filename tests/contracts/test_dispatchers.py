"""What every dispatcher keeps to, whatever it keeps it with."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from runtime.domain.repositories.durable import Share
from runtime.domain.services.dispatcher import RunDispatcher
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.ids import new_worker_id
from runtime.infrastructure.database import create_engine
from runtime.infrastructure.dispatch.database import DatabaseDispatcher
from runtime.infrastructure.dispatch.dbos.dispatcher import DbosDispatcher
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.dispatch.inline import InlineDispatcher
from runtime.infrastructure.liveness.beats import worker_beats
from runtime.infrastructure.liveness.heart import Heart
from runtime.infrastructure.repositories.run_queue import SqlRunQueue
from runtime.infrastructure.signals import run_signals
from runtime.infrastructure.signals.local import LocalSignals
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.dispatching import Process, Site, an_order, until
from tests.contracts.samples import BOB
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_durable import MemoryRunQueue, SteadyHeart
from tests.postgres import SERVER

UNSHARED = Share()
Outage = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Storage:
    uow: UnitOfWorkFactory
    ground: Callable[[AsyncExitStack], Ground]
    """For another process."""
    outage: Outage
    url: str


@pytest.fixture
async def storage(storage_url: str) -> AsyncIterator[Storage]:
    if storage_url == "memory:":
        yield _memory()
        return
    sqlite = storage_url.startswith("sqlite")
    url = f"{storage_url}?timeout=0.2" if sqlite else storage_url
    engine = create_engine(url)
    yield Storage(
        partial(sql_unit_of_work, engine, Published()),
        partial(_sql_ground, url),
        partial(_locked if sqlite else _shut, url),
        url,
    )
    await engine.dispose()


def _memory() -> Storage:
    store, signals = MemoryStore(), LocalSignals()
    queue = MemoryRunQueue(store)

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        queue.away = True
        yield
        queue.away = False

    return Storage(
        partial(memory_unit_of_work, store, Published()),
        lambda _: Ground(queue, signals, SteadyHeart(), new_worker_id()),
        outage,
        "memory:",
    )


def _sql_ground(url: str, opened: AsyncExitStack) -> Ground:
    engine = create_engine(url)
    opened.push_async_callback(engine.dispose)
    worker = new_worker_id()
    heart = Heart(worker_beats(engine), worker)
    return Ground(SqlRunQueue(engine), run_signals(engine), heart, worker)


@asynccontextmanager
async def _locked(url: str) -> AsyncIterator[None]:
    """Nobody else writes to the SQLite file meanwhile."""
    connection = sqlite3.connect(Path(make_url(url).database or ""), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.close()


@asynccontextmanager
async def _shut(url: str) -> AsyncIterator[None]:
    """Nobody gets into the PostgreSQL database meanwhile, and who was in is out."""
    name = make_url(url).database or ""
    server = SERVER.render_as_string(hide_password=False)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(allow(sql.Identifier(name), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            connection.execute(allow(sql.Identifier(name), sql.SQL("true")))


@dataclass(frozen=True)
class Yard:
    """Where a test gets its processes from."""

    site: Site
    adapter: str
    storage: Storage
    opened: AsyncExitStack

    async def process(
        self, *, most: int = 8, share: Share = UNSHARED, start: bool = True
    ) -> Process:
        ground = self.storage.ground(self.opened)
        await ground.signals.start()
        self.opened.push_async_callback(ground.signals.stop)
        await ground.heart.start()
        self.opened.push_async_callback(ground.heart.stop)
        process = Process(self.site, ground.queue, self._dispatcher(ground, most, share))
        if start:
            await self.start(process)
        return process

    async def processes(self, *, share: Share = UNSHARED) -> list[Process]:
        """Several of one database; DBOS has but one in each that is one for the system."""
        count = 1 if self.adapter == "dbos" else 2
        return [await self.process(share=share) for _ in range(count)]

    async def start(self, process: Process) -> None:
        await process.start()
        self.opened.push_async_callback(self._end, process)
        if self.adapter != "database":
            reconciler = asyncio.create_task(process.reconcile())
            self.opened.push_async_callback(_cancelled, reconciler)

    def _dispatcher(self, ground: Ground, most: int, share: Share) -> RunDispatcher:
        match self.adapter:
            case "dbos":
                return DbosDispatcher(ground, make_url(self.storage.url), most, share)
            case "inline":
                return InlineDispatcher(ground, most, share)
            case _:
                return DatabaseDispatcher(ground, most, share)

    async def _end(self, process: Process) -> None:
        await process.dispatcher.stop()
        process.let_go()
        await until(lambda: not process.going_on)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture(params=["database", "inline", "dbos"])
async def yard(request: pytest.FixtureRequest, storage: Storage) -> AsyncIterator[Yard]:
    async with AsyncExitStack() as opened:
        yield Yard(Site(storage.uow), request.param, storage, opened)


async def test_a_dispatched_run_begins(yard: Yard) -> None:
    process = await yard.process()
    run = an_order()
    await process.order(run)

    await yard.site.begins(1)
    assert [(ticket.id, ticket.attempt, ticket.scope) for _, ticket in yard.site.begun] == [
        (run.id, 1, run.scope)
    ]


async def test_a_run_that_is_brought_many_times_begins_once(yard: Yard) -> None:
    processes = await yard.processes()
    run, last = an_order(), an_order()
    await yard.site.add(run)
    await asyncio.gather(*(each.dispatcher.dispatch(run) for each in processes for _ in "abc"))
    await yard.site.begins(1)
    await processes[0].dispatcher.dispatch(run)
    await processes[-1].order(last)

    await yard.site.begins(2)
    assert yard.site.ids == [run.id, last.id]


async def test_a_run_does_not_begin_before_its_time(yard: Yard) -> None:
    process = await yard.process()
    later, now = an_order(due_in_s=0.5), an_order()
    await process.order(later, now)

    await yard.site.begins(2)
    assert later.not_before is not None
    assert yard.site.begun_at[later.id] >= later.not_before


async def test_the_more_urgent_of_an_owners_runs_begins_first(yard: Yard) -> None:
    process = await yard.process(most=1)
    first, low, high = an_order(), an_order(priority=-5), an_order(priority=5)
    await process.order(first)
    await yard.site.begins(1)
    await process.order(low, high)
    process.let_go()

    await yard.site.begins(3)
    assert yard.site.ids == [first.id, high.id, low.id]


async def test_a_flood_of_one_owner_does_not_starve_another(yard: Yard) -> None:
    process = await yard.process(most=2)
    flood = [an_order() for _ in range(12)]
    await process.order(*flood)
    await yard.site.begins(2)
    single = an_order(BOB)
    await process.order(single)
    process.let_go(yard.site.ids[0])

    await yard.site.begins(3)
    assert yard.site.ids[2] == single.id


async def test_no_more_runs_go_on_than_there_are_places_for(yard: Yard) -> None:
    process = await yard.process(most=3)
    runs = [an_order() for _ in range(9)]
    await process.order(*runs)
    await yard.site.begins(3)
    process.let_go()

    await yard.site.begins(9)
    assert yard.site.most_at_once == 3
    assert sorted(yard.site.ids) == sorted(run.id for run in runs)


@pytest.mark.parametrize("share", [Share(per_user=2), Share(per_agent=2)], ids=repr)
async def test_a_share_is_kept_over_all_processes(yard: Yard, share: Share) -> None:
    processes = await yard.processes(share=share)
    runs = [an_order() for _ in range(8)]
    for at, run in enumerate(runs):
        await processes[at % len(processes)].order(run)
    for process in processes:
        process.let_go()

    await yard.site.begins(8)
    assert yard.site.most_at_once <= 2
    assert sorted(yard.site.ids) == sorted(run.id for run in runs)


async def test_a_stopped_process_begins_nothing_more_and_ends_what_goes_on(yard: Yard) -> None:
    stopped = await yard.process()
    before, behind = an_order(), an_order()
    await stopped.order(before)
    await yard.site.begins(1)
    await stopped.dispatcher.stop()
    await stopped.order(behind)
    assert yard.site.going_on == {before.id}

    other = await yard.process()
    await yard.site.begins(2)
    assert [(process, ticket.id) for process, ticket in yard.site.begun] == [
        (stopped, before.id),
        (other, behind.id),
    ]


async def test_an_outage_of_the_database_delays_runs_and_no_more(yard: Yard) -> None:
    process = await yard.process()
    before = an_order()
    await process.order(before)
    await yard.site.begins(1)
    within, behind = an_order(due_in_s=0.5), an_order()
    await process.order(within)
    async with yard.storage.outage():
        await process.dispatcher.dispatch(within)
        await asyncio.sleep(0.8)
        assert yard.site.ids == [before.id]

    await yard.site.begins(2)
    await process.order(behind)
    await yard.site.begins(3)
    assert yard.site.ids == [before.id, within.id, behind.id]


async def test_what_was_queued_while_nobody_ran_is_taken_up(yard: Yard) -> None:
    runs = [an_order() for _ in range(3)]
    await yard.site.add(*runs)

    await yard.process()
    await yard.site.begins(3)
    assert sorted(yard.site.ids) == sorted(run.id for run in runs)
