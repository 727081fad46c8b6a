"""A thousand kills: `make chaos`.

CHAOS_KILLS says how many in all, CHAOS_DATABASE which database only, CHAOS_SEED with which seed it
begins; each episode takes the next one.
"""

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.episode import Report, episode
from tests.chaos.plan import FAULTS, Database

KILLS_PER_EPISODE = 50
NAMES: dict[str, str] = {str(kind): text for kind, text in FAULTS.items()}
DATABASES: tuple[Database, ...] = ("sqlite", "postgres")


async def main() -> int:
    """An exit code."""
    kills = int(os.environ.get("CHAOS_KILLS") or 1_000)
    only = os.environ.get("CHAOS_DATABASE")
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))
    databases = [each for each in DATABASES if only in (None, "", each)]
    console = Console()
    reports: list[Report] = []
    done = 0
    while done < kills:
        database = databases[len(reports) % len(databases)]
        count = min(KILLS_PER_EPISODE, kills - done)
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            report = await episode(seed + len(reports), database, count, Path(folder))
        reports.append(report)
        done += report.faults["kill"]
        _tell(console, report, done)
    console.print(_table(reports))
    return int(any(report.problems for report in reports))


def _tell(console: Console, report: Report, kills: int) -> None:
    state = f"{len(report.problems)} problems" if report.problems else "ok"
    console.print(
        f"seed {report.seed} {report.database}: {report.counts['runs']} runs in "
        f"{report.seconds:.0f} s, {kills} kills so far: {state}"
    )
    for problem in (*report.problems, *report.uncaught[:3]):
        console.print(f"  {problem}", markup=False, highlight=False)


def _table(reports: list[Report]) -> Table:
    table = Table("", *DATABASES, title="What happened")
    totals = {each: _sum(reports, each) for each in DATABASES}
    for name in dict.fromkeys(name for each in totals.values() for name in each):
        row = (totals[each][name] for each in DATABASES)
        table.add_row(NAMES.get(name, name), *map(str, row))
    return table


def _sum(reports: list[Report], database: Database) -> Counter[str]:
    total: Counter[str] = Counter()
    for report in (each for each in reports if each.database == database):
        total.update(report.faults)
        total.update(report.counts)
        total["problems"] += len(report.problems)
        total["stack traces in logs"] += len(report.uncaught)
    return total


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
