import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Served, serving


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the developer's own settings reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("RUNTIME_", "OPENAI_", "OTEL_")):
                patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("nothing-here"))
        yield


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    """A runtime as the first start leaves it: SQLite, demo model, one agent, no credential."""
    async with serving(tmp_path) as served:
        yield served
