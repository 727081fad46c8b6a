from collections.abc import Iterator

import pytest

from tests.postgres import fresh_database


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """One database for the whole session; whoever uses it cleans it."""
    with fresh_database() as url:
        yield url


@pytest.fixture
def fresh_postgres_url() -> Iterator[str]:
    """An empty database for one test."""
    with fresh_database() as url:
        yield url
