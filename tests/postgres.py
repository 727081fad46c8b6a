"""Databases of their own for tests that need PostgreSQL."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

SERVER = make_url(
    os.environ.get("TEST_POSTGRES_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"
).set(drivername="postgresql")


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of an empty database, dropped afterwards. Skips without a server, in CI it fails."""
    name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    _on_server(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield SERVER.set(database=name).render_as_string(hide_password=False)
    finally:
        _on_server(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _on_server(statement: sql.Composed) -> None:
    try:
        url = SERVER.render_as_string(hide_password=False)
        server = psycopg.connect(url, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        why = f"no PostgreSQL at {SERVER}; TEST_POSTGRES_URL names another: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    with server:
        server.execute(statement)
