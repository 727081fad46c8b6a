import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.repositories.keys import KeyRing
from runtime.domain.repositories.limits import Ledger
from runtime.domain.repositories.runs import RunLog
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.infrastructure.database import create_engine, upgrade
from runtime.infrastructure.repositories.keys import SqlKeyRing
from runtime.infrastructure.repositories.limits import SqlLedger
from runtime.infrastructure.repositories.runs import SqlRunLog
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.fakes import MemoryKeyRing, MemoryRunLog, MemoryStore, Published, memory_unit_of_work
from tests.fakes_limits import MemoryLedger

Connect = Callable[[str], AsyncEngine]
_LIMITS = ("limits", "prices", "usage_days", "rate_windows", "rate_leases")


@dataclass(frozen=True)
class Storage:
    """One set of adapters over the same rows."""

    uow: UnitOfWorkFactory
    run_log: RunLog
    key_ring: KeyRing
    ledger: Ledger
    published: Published


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
        for table in (*_LIMITS, "api_keys", "runs", "audit", "agents", "agent_lines"):
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


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest) -> str:
    return "memory:" if request.param == "memory" else url_of(request.param, request)


@pytest.fixture
async def storage(storage_url: str, connect: Connect) -> Storage:
    published = Published()
    if storage_url == "memory:":
        store = MemoryStore()
        memory = partial(memory_unit_of_work, store, published)
        return Storage(
            memory, MemoryRunLog(store), MemoryKeyRing(store), MemoryLedger(store), published
        )
    engine = connect(storage_url)
    uow = partial(sql_unit_of_work, engine, published)
    return Storage(uow, SqlRunLog(engine), SqlKeyRing(engine), SqlLedger(engine), published)


@pytest.fixture
def uow(storage: Storage) -> UnitOfWorkFactory:
    return storage.uow


@pytest.fixture
def published(storage: Storage) -> Published:
    return storage.published
