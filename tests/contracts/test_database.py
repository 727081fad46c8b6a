"""What callers see of a database that is gone, locked or full, and that it comes back."""

import asyncio
import socket
import sqlite3
from functools import partial

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.infrastructure.database import create_engine, ping, refusals, upgrade
from runtime.infrastructure.repositories.runs import SqlRunLog
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.conftest import Connect
from tests.contracts.samples import ALL, a_line, a_run, store
from tests.fakes import Published


def path_of(engine: AsyncEngine) -> str:
    return str(engine.url.database)


@pytest.fixture
async def impatient(sqlite_url: str, connect: Connect) -> AsyncEngine:
    return connect(f"{sqlite_url}?timeout=0.02")


@pytest.fixture
async def nowhere(connect: Connect) -> AsyncEngine:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return connect(f"postgresql://postgres@127.0.0.1:{port}/postgres")


def on(engine: AsyncEngine) -> UnitOfWorkFactory:
    return partial(sql_unit_of_work, engine, Published())


async def test_a_server_that_does_not_answer_is_unavailable(nowhere: AsyncEngine) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await ping(nowhere)
    assert isinstance(refusal.value.__cause__, DBAPIError)
    with pytest.raises(DatabaseUnavailable):
        await upgrade(nowhere)
    with pytest.raises(DatabaseUnavailable):
        await SqlRunLog(nowhere).write([a_run()])
    with pytest.raises(DatabaseUnavailable):
        await on(nowhere)(ALL).__aenter__()


async def test_a_database_that_answers_is_pinged(engine: AsyncEngine) -> None:
    await ping(engine)


async def test_a_connection_lost_in_a_unit_of_work_is_unavailable_and_comes_back(
    clean_postgres_url: str, connect: Connect
) -> None:
    engine = connect(clean_postgres_url)
    uow = on(engine)
    line = a_line()
    await store(uow, line)

    async with uow(ALL) as work:
        await work.lines.save(line)
        with psycopg.connect(clean_postgres_url, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await work.lines.get(line.id)
        with pytest.raises(DatabaseUnavailable):
            await work.commit()

    async with uow(ALL) as work:
        assert (await work.lines.get(line.id)).revision == 1


async def test_while_another_process_writes_writes_are_refused_and_reads_go_on(
    impatient: AsyncEngine,
) -> None:
    uow = on(impatient)
    line = a_line()
    await store(uow, line)
    other = sqlite3.connect(path_of(impatient), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async with uow(ALL) as work:
        with pytest.raises(DatabaseUnavailable):
            await work.lines.add(a_line("second"))
        assert await work.lines.find(line.id) is not None
    with pytest.raises(DatabaseUnavailable):
        await SqlRunLog(impatient).write([a_run()])

    other.close()
    await store(uow, a_line("second"))


async def test_a_writer_waits_for_the_one_before_it(sqlite_url: str, connect: Connect) -> None:
    engine = connect(sqlite_url)
    uow = on(engine)
    async with uow(ALL) as first:
        await first.lines.add(a_line("first"))
        second = asyncio.create_task(store(uow, a_line("second")))
        await asyncio.sleep(0.05)
        assert not second.done()
        await first.commit()
    await second


async def test_on_a_full_disk_writes_are_refused_and_reads_go_on(
    sqlite_url: str, connect: Connect
) -> None:
    engine = connect(sqlite_url)

    @event.listens_for(engine.sync_engine, "connect")
    def fill_up(connection: DBAPIConnection, _: object) -> None:
        connection.cursor().execute("PRAGMA max_page_count=1")  # As many as there are.

    kept = a_run()
    await SqlRunLog(engine).write([kept])
    with pytest.raises(DatabaseUnavailable):
        await SqlRunLog(engine).write([a_run(metadata={"long": "m" * 100_000})])
    async with on(engine)(ALL) as work:
        assert await work.runs.get(kept.id) == kept
        assert (await work.runs.totals()).runs == 1


async def test_a_missing_table_is_a_bug_and_not_an_outage(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError), refusals():
            await connection.execute(text("SELECT * FROM nowhere"))


def test_an_exhausted_pool_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable), refusals():
        raise PoolTimeout


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://root@127.0.0.1/x"])
def test_a_database_that_can_not_serve_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValueError, match="SQLite"):
        create_engine(url)
