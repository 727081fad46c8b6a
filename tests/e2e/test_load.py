"""A bounded form of `make load`, which has 500 streams and 10,000 requests."""

from pathlib import Path

from tests.e2e.load import CONCURRENCY, KINDS, load

GROWTH_MB = 30
"""The allocator keeps some; a leak of 20 KB a request would be more."""
DATABASE = 10
"""Descriptors of further connections in the pool of the database."""
POOLED = 6
"""Threads of pools, which grow to what was needed at once and stay."""


async def test_resources_are_back_where_they_were_after_many_callers(tmp_path: Path) -> None:
    async with load(tmp_path) as running:
        await running.requests(CONCURRENCY * 4)
        before = await running.idle()
        answered = await running.streams(200)
        heard = await running.sockets(200)
        between = await running.settled(before)
        outcomes = await running.requests(1_500)
        after = await running.settled(before)

        assert min(len(answered), len(heard)) > 3
        assert outcomes.total() == 1_500
        assert len(outcomes) == len(KINDS)
        assert after.connections <= before.connections
        assert after.descriptors <= before.descriptors + DATABASE
        assert after.threads <= before.threads + POOLED
        assert after.resident_mb - between.resident_mb < GROWTH_MB
        assert running.runtime.runs().count("cancelled") >= 100
        assert "Traceback" not in running.runtime.log
