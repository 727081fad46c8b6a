"""Kill it anywhere: nothing is lost, nothing fires twice, nobody misses a word.

`make chaos` does the same for longer. A seed says what is done and in which order; when exactly it
hits is up to the machine.
"""

import os
from pathlib import Path

import pytest

from tests.chaos.episode import Report, episode
from tests.chaos.plan import Database

KILLS: dict[Database, int] = {"sqlite": 25, "postgres": 26}


def seed() -> int:
    return int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_runs_come_through_whatever_happens(database: Database, tmp_path: Path) -> None:
    report: Report = await episode(seed(), database, KILLS[database], tmp_path)

    again = f"CHAOS_SEED={report.seed} pytest tests/chaos/test_chaos.py -k {database}"
    assert not report.problems, "\n".join([again, *report.problems[:50]])
    assert report.faults["kill"] >= KILLS[database]
    assert report.counts["runs"] >= 10
