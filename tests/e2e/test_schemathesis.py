"""The OpenAPI document is kept to: every check of schemathesis, on both databases."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import process
from tests.postgres import fresh_database

COMMAND = Path(sys.executable).with_name("schemathesis")
TOKEN = "correct-horse-battery"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with fresh_database() as url:
        yield url


async def test_no_answer_is_a_5xx_or_undocumented(tmp_path: Path, database_url: str) -> None:
    # With a token: the first key that is made by chance would end the anonymous local admin.
    settings = {"RUNTIME_DATABASE_URL": database_url, "RUNTIME_TOKEN": TOKEN}
    async with process(tmp_path, **settings) as runtime:
        checking = await asyncio.create_subprocess_exec(
            *(COMMAND, "--config-file", CONFIG, "run", f"{runtime.url}/openapi.json"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "8"),
            *("--generation-deterministic", "--no-color"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await checking.communicate()

        assert checking.returncode == 0, said.decode()
        assert "Traceback" not in runtime.log
