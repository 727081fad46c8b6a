"""The proxy itself: a fault that does not happen would prove nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from tests.chaos.proxy import FaultProxy

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def proxy(fresh_postgres_url: str) -> AsyncIterator[FaultProxy]:
    server = make_url(fresh_postgres_url)
    async with FaultProxy(server.host or "127.0.0.1", server.port or 5432) as proxy:
        with psycopg.connect(fresh_postgres_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE marks (mark int)")
        yield proxy


@pytest.fixture
def through(proxy: FaultProxy, fresh_postgres_url: str) -> Callable[..., Any]:
    told = make_conninfo(
        fresh_postgres_url,
        host="127.0.0.1",
        port=proxy.port,
        sslmode="disable",
        gssencmode="disable",
    )

    def connect(**options: Any) -> Any:  # noqa: ANN401 - psycopg's own
        return psycopg.AsyncConnection.connect(told, **options)

    return connect


def marks(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [mark for (mark,) in connection.execute("SELECT mark FROM marks ORDER BY mark")]


async def test_a_lost_commit_is_made_and_its_answer_is_not(
    proxy: FaultProxy, through: Callable[..., Any], fresh_postgres_url: str
) -> None:
    connection = await through()
    await connection.execute("INSERT INTO marks VALUES (%s)", [1])
    proxy.lose_commits(1)
    await connection.execute("INSERT INTO marks VALUES (%s)", [2])
    with pytest.raises(psycopg.OperationalError):
        await connection.commit()
    await connection.close()

    assert marks(fresh_postgres_url) == [1, 2]
    assert proxy.lost_commits == 1
    assert not proxy.armed


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_statement_that_commits_by_itself_counts_as_a_commit(
    proxy: FaultProxy, through: Callable[..., Any], fresh_postgres_url: str, prepared: bool
) -> None:
    connection = await through(autocommit=True, prepare_threshold=0 if prepared else None)
    add = "WITH added AS (INSERT INTO marks VALUES (%s) RETURNING mark) SELECT mark FROM added"
    await connection.execute(add, [1])
    proxy.lose_commits(1)
    with pytest.raises(psycopg.OperationalError):
        await connection.execute(add, [2])
    await connection.close()

    assert marks(fresh_postgres_url) == [1, 2]


async def test_what_only_reads_or_fails_loses_nothing(
    proxy: FaultProxy, through: Callable[..., Any], fresh_postgres_url: str
) -> None:
    connection = await through()
    proxy.lose_commits(1)
    await connection.execute("SELECT 1")
    await connection.commit()
    await connection.execute("INSERT INTO marks VALUES (1)")
    await connection.rollback()
    with pytest.raises(psycopg.errors.UndefinedTable):
        await connection.execute("INSERT INTO nothing VALUES (1)")
    await connection.rollback()
    await connection.close()

    assert proxy.armed
    assert marks(fresh_postgres_url) == []


async def test_a_cut_ends_every_connection_and_refusing_keeps_new_ones_out(
    proxy: FaultProxy, through: Callable[..., Any]
) -> None:
    connection = await through()
    proxy.refusing = True
    proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        await through()
    proxy.heal()

    again = await through()
    await again.execute("SELECT 1")
    await again.close()
    await connection.close()


async def test_frozen_nothing_passes_until_it_thaws_and_delays_add_up(
    proxy: FaultProxy, through: Callable[..., Any]
) -> None:
    connection = await through()
    proxy.freeze()
    asked = asyncio.create_task(connection.execute("SELECT 1"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asked), 0.2)
    proxy.thaw()
    await asked
    proxy.delay_s = 0.1
    since = time.monotonic()
    await connection.execute("SELECT 1")

    assert time.monotonic() - since >= 0.2
    await connection.close()
