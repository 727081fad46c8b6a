import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.durable import DurableRun
from runtime.domain.repositories.checkpoints import CheckpointStore
from runtime.domain.repositories.durable import ToolLedger
from runtime.domain.repositories.idempotency import IdempotencyStore
from runtime.domain.repositories.keys import KeyRing
from runtime.domain.repositories.limits import Ledger
from runtime.domain.repositories.providers import ProviderBook
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.repositories.runs import RunLog
from runtime.domain.repositories.schedules import ScheduleBook
from runtime.domain.repositories.sessions import SessionHolds, SessionLog
from runtime.domain.repositories.webhooks import DeliveryQueue
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.infrastructure.database import create_engine, upgrade
from runtime.infrastructure.repositories.base import metadata
from runtime.infrastructure.repositories.checkpoint_pruning import SqlCheckpointPruner
from runtime.infrastructure.repositories.checkpoints import SqlCheckpointStore
from runtime.infrastructure.repositories.completions import SqlCompletionPruner
from runtime.infrastructure.repositories.durable_runs import durable_runs
from runtime.infrastructure.repositories.idempotency import SqlIdempotencyStore
from runtime.infrastructure.repositories.keys import SqlKeyRing
from runtime.infrastructure.repositories.limits import SqlLedger
from runtime.infrastructure.repositories.memories import SqlFactPruner
from runtime.infrastructure.repositories.providers import SqlProviderBook
from runtime.infrastructure.repositories.responses import SqlResponsePruner
from runtime.infrastructure.repositories.runs import SqlRunLog
from runtime.infrastructure.repositories.schedule_book import SqlScheduleBook
from runtime.infrastructure.repositories.session_log import SqlSessionLog
from runtime.infrastructure.repositories.sessions import SqlSessionHolds
from runtime.infrastructure.repositories.tool_ledger import SqlToolLedger
from runtime.infrastructure.repositories.webhook_deliveries import SqlDeliveryPruner
from runtime.infrastructure.repositories.webhook_queue import SqlDeliveryQueue
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.fakes import (
    MemoryKeyRing,
    MemoryRunLog,
    MemorySessionHolds,
    MemorySessionLog,
    MemoryStore,
    Published,
    memory_unit_of_work,
)
from tests.fakes_checkpoints import MemoryCheckpointStore
from tests.fakes_completions import MemoryCompletionPruner
from tests.fakes_idempotency import MemoryIdempotencyStore
from tests.fakes_limits import MemoryLedger
from tests.fakes_memories import MemoryFactPruner
from tests.fakes_providers import MemoryProviderBook
from tests.fakes_responses import MemoryResponsePruner
from tests.fakes_schedules import MemoryScheduleBook
from tests.fakes_tools import MemoryToolLedger
from tests.fakes_webhooks import MemoryDeliveryPruner, MemoryDeliveryQueue

Connect = Callable[[str], AsyncEngine]
_RATES = ("rate_windows", "rate_leases")
"""On PostgreSQL alone, written by functions."""


@dataclass(frozen=True)
class Storage:
    """One set of adapters over the same rows."""

    uow: UnitOfWorkFactory
    run_log: RunLog
    key_ring: KeyRing
    idempotency: IdempotencyStore
    completion_pruner: Pruner
    fact_pruner: Pruner
    response_pruner: Pruner
    delivery_queue: DeliveryQueue
    delivery_pruner: Pruner
    ledger: Ledger
    published: Published
    session_holds: SessionHolds
    session_log: SessionLog
    provider_book: ProviderBook
    schedule_book: Callable[[Callable[[], datetime]], ScheduleBook]
    """With its clock."""
    tool_ledger: ToolLedger
    checkpoints: CheckpointStore
    checkpoint_pruner: Pruner
    goes_on: Callable[[DurableRun], Awaitable[None]]
    """From now on it has that status and attempt, and ended then."""


async def goes_on_in_memory(store: MemoryStore, run: DurableRun) -> None:
    store.tables.durable[run.id] = run


async def goes_on_in_sql(engine: AsyncEngine, run: DurableRun) -> None:
    async with sql_unit_of_work(engine, Published(), run.scope) as work:
        await work.durable.add(run)
        await work.commit()
    async with engine.begin() as connection:
        change = update(durable_runs).where(durable_runs.c.id == run.id)
        state = {"status": run.status, "attempt": run.attempt, "ended_at": run.ended_at}
        await connection.execute(change.values(state))


def migrated(url: str) -> str:
    async def run() -> None:
        engine = create_engine(url)
        await upgrade(engine)
        await engine.dispose()

    asyncio.run(run())
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_url: str) -> str:
    return migrated(postgres_url)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'test.db')}"


@pytest.fixture
def clean_postgres_url(migrated_postgres_url: str) -> str:
    with psycopg.connect(migrated_postgres_url) as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}")
        for table in _RATES:
            connection.execute(f"DELETE FROM {table}")
    return migrated_postgres_url


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("sqlite_url" if kind == "sqlite" else "clean_postgres_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    return url_of(request.param, request)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes engines that end with the test."""
    engines: list[AsyncEngine] = []

    def connect(url: str) -> AsyncEngine:
        engines.append(create_engine(url))
        return engines[-1]

    yield connect
    for engine in engines:
        await engine.dispose()


@pytest.fixture
async def engine(database_url: str, connect: Connect) -> AsyncEngine:
    return connect(database_url)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """DBOS needs a database."""
    items[:] = [item for item in items if not {"dbos", "memory"} <= _parameters(item)]


def _parameters(item: pytest.Item) -> set[object]:
    callspec = getattr(item, "callspec", None)
    given = callspec.params.values() if callspec else ()
    return {each for each in given if isinstance(each, str)}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest) -> str:
    return "memory:" if request.param == "memory" else url_of(request.param, request)


@pytest.fixture
async def storage(storage_url: str, connect: Connect) -> AsyncIterator[Storage]:
    published = Published()
    if storage_url == "memory:":
        store = MemoryStore()
        checkpoints = MemoryCheckpointStore(store)
        yield Storage(
            uow=partial(memory_unit_of_work, store, published),
            run_log=MemoryRunLog(store),
            key_ring=MemoryKeyRing(store),
            idempotency=MemoryIdempotencyStore(),
            completion_pruner=MemoryCompletionPruner(store),
            fact_pruner=MemoryFactPruner(store),
            response_pruner=MemoryResponsePruner(store),
            ledger=MemoryLedger(store),
            published=published,
            session_holds=MemorySessionHolds(store),
            session_log=MemorySessionLog(store),
            provider_book=MemoryProviderBook(store),
            schedule_book=partial(MemoryScheduleBook, store),
            tool_ledger=MemoryToolLedger(store),
            checkpoints=checkpoints,
            checkpoint_pruner=checkpoints,
            goes_on=partial(goes_on_in_memory, store),
            delivery_queue=MemoryDeliveryQueue(store),
            delivery_pruner=MemoryDeliveryPruner(store),
        )
        return
    engine = connect(storage_url)
    session_log = SqlSessionLog(engine)
    yield Storage(
        uow=partial(sql_unit_of_work, engine, published),
        run_log=SqlRunLog(engine),
        key_ring=SqlKeyRing(engine),
        idempotency=SqlIdempotencyStore(engine),
        completion_pruner=SqlCompletionPruner(engine),
        fact_pruner=SqlFactPruner(engine),
        response_pruner=SqlResponsePruner(engine),
        ledger=SqlLedger(engine),
        published=published,
        session_holds=SqlSessionHolds(engine),
        session_log=session_log,
        provider_book=SqlProviderBook(engine),
        schedule_book=partial(SqlScheduleBook, engine),
        tool_ledger=SqlToolLedger(engine),
        checkpoints=SqlCheckpointStore(engine),
        checkpoint_pruner=SqlCheckpointPruner(engine),
        goes_on=partial(goes_on_in_sql, engine),
        delivery_queue=SqlDeliveryQueue(engine),
        delivery_pruner=SqlDeliveryPruner(engine),
    )
    await session_log.aclose()


@pytest.fixture
def uow(storage: Storage) -> UnitOfWorkFactory:
    return storage.uow


@pytest.fixture
def published(storage: Storage) -> Published:
    return storage.published
