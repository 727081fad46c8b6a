"""What one process writes, another one hears of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.signals import ANY, RunSignals, Signal
from runtime.domain.value_objects.ids import RunId, new_run_id
from runtime.infrastructure.signals import run_signals
from runtime.infrastructure.signals.payloads import KEPT, notify
from tests.contracts.conftest import Connect
from tests.contracts.dispatching import until


class Listener:
    """Another process that listens."""

    def __init__(self, signals: RunSignals) -> None:
        self.signals = signals
        self.heard: list[Signal] = []
        signals.subscribe(self.heard.append)

    async def hears(self, *expected: Signal) -> None:
        await until(lambda: len(self.heard) >= len(expected))
        assert self.heard == list(expected)


Listen = Callable[[AsyncEngine], Awaitable[Listener]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    async with AsyncExitStack() as opened:

        async def listen(engine: AsyncEngine) -> Listener:
            listener = Listener(run_signals(engine))
            await listener.signals.start()
            opened.push_async_callback(listener.signals.stop)
            await until(lambda: ANY in listener.heard)
            listener.heard.clear()
            return listener

        yield listen


async def write(engine: AsyncEngine, signals: Sequence[Signal]) -> None:
    async with engine.begin() as connection:
        await notify(connection, signals)


def a_signal() -> Signal:
    return Signal("log", new_run_id())


async def test_another_process_hears_what_is_committed(
    engine: AsyncEngine, database_url: str, connect: Connect, listen: Listen
) -> None:
    other = await listen(connect(database_url))
    run = new_run_id()
    signals = [Signal("queue", run), Signal("log", run), Signal("control", run)]

    await write(engine, [*signals, signals[0]])
    await other.hears(*signals)
    assert other.signals.prompt


async def test_nobody_hears_of_what_is_rolled_back(
    engine: AsyncEngine, database_url: str, connect: Connect, listen: Listen
) -> None:
    other = await listen(connect(database_url))
    forgotten, kept = a_signal(), a_signal()

    async with engine.connect() as connection:
        await notify(connection, [forgotten])
        await connection.rollback()
    await write(engine, [kept])
    await other.hears(kept)


async def test_a_process_hears_of_its_own_at_once_and_only_once(
    engine: AsyncEngine, database_url: str, connect: Connect, listen: Listen
) -> None:
    own, foreign = await listen(engine), await listen(connect(database_url))
    mine, others = a_signal(), a_signal()

    await write(engine, [mine])
    own.signals.tell([mine])
    assert own.heard == [mine]
    await foreign.hears(mine)
    await write(connect(database_url), [others])
    await own.hears(mine, others)


async def test_as_many_as_there_are_in_one_transaction_are_heard(
    engine: AsyncEngine, database_url: str, connect: Connect, listen: Listen
) -> None:
    other = await listen(connect(database_url))
    signals = [a_signal() for _ in range(1_000)]

    await write(engine, signals)
    await other.hears(*signals)


async def test_who_comes_later_hears_nothing_old_but_looks(
    engine: AsyncEngine, database_url: str, connect: Connect, listen: Listen
) -> None:
    await write(engine, [a_signal()])
    late = await listen(connect(database_url))
    new = a_signal()

    await write(engine, [new])
    await late.hears(new)


async def test_a_subscriber_that_fails_keeps_nothing_from_the_others(
    engine: AsyncEngine, listen: Listen
) -> None:
    listener = await listen(engine)
    after: list[Signal] = []

    def fails(_: Signal) -> None:
        raise RuntimeError("broken")

    listener.signals.subscribe(fails)
    listener.signals.subscribe(after.append)
    signal = a_signal()
    listener.signals.tell([signal])
    assert after == [signal]


async def test_whoever_lost_the_connection_looks_when_it_is_back(
    clean_postgres_url: str, connect: Connect, listen: Listen
) -> None:
    other = await listen(connect(clean_postgres_url))
    with psycopg.connect(clean_postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'agent-runtime-signals'"
        )
    await until(lambda: not other.signals.prompt or ANY in other.heard)
    await until(lambda: other.signals.prompt and ANY in other.heard)
    other.heard.clear()
    new = a_signal()

    await write(connect(clean_postgres_url), [new])
    await other.hears(new)


async def test_without_a_database_it_starts_and_is_not_prompt(connect: Connect) -> None:
    signals = run_signals(connect("postgresql://nobody@127.0.0.1:1/nothing"))
    await asyncio.wait_for(signals.start(), 5)

    assert not signals.prompt
    await signals.stop()


async def test_who_is_far_behind_on_sqlite_looks_at_everything(
    sqlite_url: str, connect: Connect, listen: Listen
) -> None:
    engine = connect(sqlite_url)
    other = await listen(connect(sqlite_url))
    last = a_signal()
    async with engine.begin() as connection:
        for _ in range(3):
            await notify(connection, [a_signal()])
        await connection.execute(text("DELETE FROM run_signals"))
        await connection.execute(
            text("INSERT INTO run_signals VALUES (9, 'somebody', :payload)"),
            {"payload": f"somebody;l:{last.run}"},
        )
    await other.hears(ANY, last)


async def test_sqlite_keeps_no_more_notes_than_it_needs(engine_sqlite: AsyncEngine) -> None:
    async with engine_sqlite.begin() as connection:
        for _ in range(6 * KEPT):
            await notify(connection, [Signal("log", RunId("run_1"))])
        kept = await connection.scalar(text("SELECT count(*) FROM run_signals"))

    assert kept <= 5 * KEPT


@pytest.fixture
def engine_sqlite(sqlite_url: str, connect: Connect) -> AsyncEngine:
    return connect(sqlite_url)
