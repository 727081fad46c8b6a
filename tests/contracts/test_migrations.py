import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import main as alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.errors import DatabaseUnavailable
from runtime.infrastructure.database import (
    create_engine,
    migrations_dir,
    newest_revision,
    ping,
    upgrade,
)
from runtime.infrastructure.repositories import (
    agents,
    approvals,
    audit,
    checkpoint_rows,
    completions,
    durable_runs,
    feedback,
    idempotency,
    keys,
    limits,
    memories,
    providers,
    responses,
    run_events,
    runs,
    schedules,
    sessions,
    tool_ledger,
    webhook_deliveries,
    webhooks,
)
from runtime.infrastructure.repositories.base import metadata
from tests.contracts.conftest import Connect

ROOT = Path(__file__).parents[2]
TABLES = {
    agents.agent_lines,
    agents.agents,
    audit.audit,
    runs.runs,
    keys.api_keys,
    idempotency.idempotency_keys,
    sessions.sessions,
    sessions.session_items,
    completions.chat_completions,
    responses.responses,
    run_events.run_events,
    feedback.feedback,
    limits.limits,
    limits.prices,
    providers.providers,
    providers.provider_models,
    durable_runs.durable_runs,
    schedules.schedules,
    schedules.schedule_ticks,
    tool_ledger.tool_calls,
    checkpoint_rows.checkpoints,
    checkpoint_rows.checkpoint_values,
    checkpoint_rows.checkpoint_writes,
    memories.memories,
    memories.memory_words,
    approvals.approvals,
    webhooks.webhooks,
    webhook_deliveries.webhook_deliveries,
}
SUMS = {limits.usage_days}
"""Of a project's many users."""
PROCESSES = {durable_runs.workers}
SHORT_LIVED = ("rate_windows", "rate_leases", "run_signals")
"""Of one kind of database alone."""


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("fresh_postgres_url"))
    return f"sqlite:///{tmp_path}/data/deep/runtime.db"


async def revision_of(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT version_num FROM alembic_version"))


async def test_models_and_migrations_agree(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _: object) -> bool:
            return kind != "table" or name not in SHORT_LIVED

        context = MigrationContext.configure(connection, opts={"include_name": ours})
        return list(compare_metadata(context, metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


def test_every_table_has_a_project_and_an_owner() -> None:
    assert set(metadata.tables.values()) == TABLES | SUMS | PROCESSES
    for table in TABLES:
        assert not table.c.project_id.nullable
        assert not table.c.owner_id.nullable


def test_revisions_are_numbered_without_gaps() -> None:
    scripts = ScriptDirectory(str(migrations_dir()))
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]

    assert revisions == [f"{n + 1:04d}" for n in range(len(revisions))]
    assert scripts.get_current_head() == newest_revision()


async def test_engines_starting_at_once_all_find_the_schema(
    empty_url: str, connect: Connect
) -> None:
    engines = [connect(empty_url) for _ in range(6)]
    await asyncio.gather(*(upgrade(engine) for engine in engines))

    for engine in engines:
        assert await revision_of(engine) == newest_revision()


def test_processes_starting_at_once_leave_each_others_locks_alone(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from runtime.infrastructure.database import create_engine, ping, upgrade\n"
        "async def start() -> None:\n"
        "    engine = create_engine(sys.argv[1])\n"
        "    for _ in range(3):\n"
        "        await upgrade(engine)\n"
        "        await ping(engine)\n"
        "    await engine.dispose()\n"
        "asyncio.run(start())"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/runtime.db"]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]


async def test_a_newer_schema_is_left_alone(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        await upgrade(engine)
        assert await revision_of(engine) == "9999"
    finally:
        async with engine.begin() as connection:
            back = text("UPDATE alembic_version SET version_num = :newest")
            await connection.execute(back, {"newest": newest_revision()})


async def test_an_upgrade_that_fails_leaves_nothing_behind(
    empty_url: str, connect: Connect
) -> None:
    engine = connect(empty_url)
    await upgrade(engine)
    dropped = [each.name for each in reversed(metadata.sorted_tables) if each is not audit.audit]
    async with engine.begin() as connection:
        for table in ("alembic_version", *dropped):
            await connection.execute(text(f"DROP TABLE {table}"))
        for table in SHORT_LIVED:
            await connection.execute(text(f"DROP TABLE IF EXISTS {table}"))

    with pytest.raises(Exception, match="audit"):
        await upgrade(engine)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE audit"))
    await upgrade(engine)


async def test_the_file_and_its_folder_are_their_owners_only(
    tmp_path: Path, connect: Connect
) -> None:
    path = tmp_path / "var" / "runtime.db"
    engine = connect(f"sqlite:///{path}")
    await upgrade(engine)
    async with engine.connect() as connection:
        mode = await connection.scalar(text("PRAGMA journal_mode"))

    assert mode == "wal"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_folder_that_can_not_be_made_is_unavailable(
    tmp_path: Path, connect: Connect
) -> None:
    (tmp_path / "var").write_text("a file")
    engine = connect(f"sqlite:///{tmp_path}/var/runtime.db")

    with pytest.raises(DatabaseUnavailable):
        await upgrade(engine)
    with pytest.raises(DatabaseUnavailable):
        await ping(engine)


def test_a_start_with_the_schema_in_place_does_not_import_alembic(sqlite_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from runtime.infrastructure.database import create_engine, upgrade\n"
        f"asyncio.run(upgrade(create_engine({sqlite_url!r})))\n"
        "sys.exit('alembic' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_the_command_line_upgrades_the_configured_database(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DATABASE_URL", empty_url)
    alembic(["-c", str(ROOT / "alembic.ini"), "upgrade", "head"])

    async def revision() -> object:
        engine = create_engine(empty_url)
        found = await revision_of(engine)
        await engine.dispose()
        return found

    assert asyncio.run(revision()) == newest_revision()
