"""Runs the migrations: on the connection that the runtime hands in, or for the command line."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from runtime.infrastructure.database import create_engine, migrating
from runtime.infrastructure.repositories import agents, audit, idempotency, keys, runs
from runtime.infrastructure.repositories.base import metadata
from runtime.infrastructure.settings import Settings

assert {
    agents.agents.metadata,
    audit.audit.metadata,
    idempotency.idempotency_keys.metadata,
    keys.api_keys.metadata,
    runs.runs.metadata,
} == {metadata}


def run(connection: Connection) -> None:
    batch = connection.dialect.name == "sqlite"
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=batch)
    with context.begin_transaction():
        context.run_migrations()


async def run_from_command_line() -> None:
    async with migrating(Settings().database) as connection:
        await connection.run_sync(run)


def print_sql() -> None:
    dialect = create_engine(Settings().database).dialect.name
    context.configure(dialect_name=dialect, target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
elif context.is_offline_mode():
    print_sql()
else:
    asyncio.run(run_from_command_line())
