"""The engine, its errors as refusals, and the migrations."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    DataError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from runtime.domain.errors import DatabaseUnavailable, DomainError, InvalidValue
from runtime.infrastructure.sqlite_connection import connect

POOL_WAIT_S = 5
MIGRATION_WAIT_S = 60
_MIGRATION_LOCK = 0x6167656E7472756E
_SQLITE_DEFAULTS = {"timeout": "5"}
_POSTGRESQL_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "options": "-c timezone=UTC -c statement_timeout=30s -c lock_timeout=5s "
    "-c idle_in_transaction_session_timeout=60s",
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the driver's errors into what they mean to a caller.

    A broken constraint passes as it is: only the repository knows what it stands for.
    """
    try:
        yield
    except (InterfaceError, PendingRollbackError, PoolTimeout) as error:
        raise DatabaseUnavailable from error
    except OperationalError as error:
        # SQLite has no class of its own for wrong SQL; that is a bug, and no retry mends it.
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise
        raise DatabaseUnavailable from error
    except DataError as error:
        raise InvalidValue("A value is larger than the database can hold.") from error
    except StatementError as error:
        if isinstance(error.orig, DomainError):
            raise error.orig from error
        raise


def create_engine(url: str | URL) -> AsyncEngine:
    """For `sqlite:` with a file or `postgresql:`, whatever driver it names.

    The URL's query has the last word on time-outs: `?timeout=` (seconds, SQLite),
    `?connect_timeout=`, `?options=` (PostgreSQL).
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite_engine(parsed)
        case "postgresql":
            return _postgresql_engine(parsed)
        case other:
            raise ValueError(f"The database is SQLite or PostgreSQL, not '{other}'.")


async def ping(engine: AsyncEngine) -> None:
    """Raises DatabaseUnavailable."""
    with refusals():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the schema to what this code needs; any number of processes may do so at once.

    A schema newer than that is left alone: migrations only add. Raises DatabaseUnavailable.
    """
    with refusals():
        await _prepare(engine.url)
        async with engine.connect() as connection:
            current = await connection.run_sync(_revision)
        if current < newest_revision():
            async with migrating(engine.url) as connection:
                await connection.run_sync(_migrate)


async def current_revision(engine: AsyncEngine) -> str:
    """Empty when there is no schema yet. Raises DatabaseUnavailable."""
    url = engine.url
    if url.get_backend_name() == "sqlite" and not await asyncio.to_thread(_file_of(url).exists):
        return ""  # Connecting would make the file.
    with refusals():
        async with engine.connect() as connection:
            return await connection.run_sync(_revision)


@asynccontextmanager
async def migrating(url: str | URL) -> AsyncIterator[AsyncConnection]:
    """A transaction beside which no other migration runs; leaving the block commits it."""
    url = make_url(url)
    await _prepare(url)
    if url.get_backend_name() == "sqlite":
        wait, lock = {"timeout": str(MIGRATION_WAIT_S)}, "BEGIN IMMEDIATE"
    else:
        wait = {"options": f"-c timezone=UTC -c lock_timeout={MIGRATION_WAIT_S}s"}
        lock = f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"
    engine = create_engine(url.update_query_dict(wait))
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(lock)
            yield connection
    finally:
        await engine.dispose()


def migrations_dir() -> Path:
    """In a wheel they lie beside this module, in the repository at its root."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations"


def newest_revision() -> str:
    """Read off the file names, `0001_….py`: importing alembic takes longer than all of start-up."""
    return max(path.name[:4] for path in (migrations_dir() / "versions").glob("[0-9]*.py"))


def _revision(connection: Connection) -> str:
    """Empty when the schema is not there yet."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _migrate(connection: Connection) -> None:
    if _revision(connection) >= newest_revision():
        return  # Another process was first.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _sqlite_engine(url: URL) -> AsyncEngine:
    _file_of(url)
    # The driver begins a transaction at the first INSERT, UPDATE or DELETE, never at a SELECT.
    # With IMMEDIATE it then takes the writer's lock at once, waiting `timeout` for it, so that no
    # unit of work has to turn a read lock into a write lock, which fails without waiting. Reads
    # before the first write see the newest commit, as under READ COMMITTED on PostgreSQL.
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite", query={**_SQLITE_DEFAULTS, **url.query}),
        connect_args={"isolation_level": "IMMEDIATE", "async_creator_fn": connect},
        pool_size=8,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
    )
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # NORMAL outlives `kill -9`, FULL a power cut too. It costs an fsync for each commit, and
    # commits are few: commands, and runs in batches.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _postgresql_engine(url: URL) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+psycopg", query={**_POSTGRESQL_DEFAULTS, **url.query}),
        isolation_level="READ COMMITTED",
        pool_size=10,
        max_overflow=10,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        pool_recycle=1800,
    )


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: its connections share nothing in memory.")
    return Path(url.database)


async def _prepare(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        await asyncio.to_thread(prepare_file, _file_of(url))


def prepare_file(path: Path) -> None:
    """Make the file, for its owner only, and switch it to write-ahead logging for good."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never on a file that is there: closing it would drop the locks of every connection of
        # this process (sqlite.org/howtocorrupt.html, §2.2).
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=MIGRATION_WAIT_S)
        try:
            _enable_wal(connection)
        finally:
            connection.close()
    except (OSError, sqlite3.OperationalError) as error:
        raise DatabaseUnavailable from error


def _enable_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + MIGRATION_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # Switching a file that others open fails at once, whatever the busy time-out.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
