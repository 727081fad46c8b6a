import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.server import Served, serving


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own settings reaches a test."""
    for name in list(os.environ):
        if name.startswith(("RUNTIME_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Served]:
    """A runtime as the first start leaves it: SQLite, demo model, one agent, no credential."""
    async with serving(tmp_path) as served:
        yield served
