"""Compares the runtime with the floor and with a minimal handler: docs/performance.md."""

import argparse
import sys
from dataclasses import replace

from tests.benchmarks import report, suite
from tests.benchmarks.load import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; writes no file")
    parser.add_argument("--only", default="", help="servers by their letters, such as c,d; no file")
    parser.add_argument(
        "--cases", default="", help="by their keys, such as sse-50,durable; no file"
    )
    parser.add_argument("--rounds", type=int, help="instead of the plan's")
    given = parser.parse_args()
    plan = suite.QUICK if given.quick else suite.FULL
    if given.only:
        plan = replace(plan, targets=given.only.split(","))
    if given.cases:
        if "durable" not in given.cases.split(","):
            plan = replace(plan, durable_runs=None)
        cases = [case for case in plan.cases if case.key in given.cases.split(",")]
        plan = replace(plan, cases=cases, held_streams=0)
    if given.rounds:
        plan = replace(plan, rounds=given.rounds)
    tables = report.tables(suite.measure(plan))
    sys.stdout.write(tables)
    if not (given.quick or given.only or given.cases):
        PAGE.write_text(report.page(tables))


if __name__ == "__main__":
    main()
