from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.quotas import LEASE_S, Asked, RateLimiter, Window
from runtime.domain.value_objects.limits import Subject
from runtime.infrastructure.database import refusals

_ADMIT = text(
    "SELECT * FROM rate_admit(:holder, CAST(:subjects AS text[]), CAST(:requests AS bigint[]),"
    " CAST(:tokens AS bigint[]), CAST(:runs AS bigint[]), :asked_tokens, :asked_runs, :lease_s,"
    " CAST(:at AS double precision))"
)
_SETTLE = text(
    "SELECT rate_settle(:holder, CAST(:subjects AS text[]), :slot, :tokens, :runs,"
    " CAST(:at AS double precision))"
)
_RENEW = text(
    "INSERT INTO rate_leases SELECT h, s, r, coalesce(CAST(:at AS double precision),"
    " extract(epoch FROM clock_timestamp())) + :lease_s"
    " FROM unnest(CAST(:holders AS text[]), CAST(:subjects AS text[]), CAST(:runs AS bigint[]))"
    " AS held(h, s, r) ORDER BY s, h"
    " ON CONFLICT (subject, holder) DO UPDATE"
    " SET runs = excluded.runs, expires_at = excluded.expires_at"
)
_SWEEP = text(
    "DELETE FROM rate_leases WHERE expires_at < coalesce(CAST(:at AS double precision),"
    " extract(epoch FROM clock_timestamp()))"
)


class PostgresRateLimiter(RateLimiter):
    """Of all processes on one database, by its clock: `rate_admit` in migration 0007.

    One round trip, one atomic statement; a subject's row is locked for as long as it takes.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] | None = None) -> None:
        """`clock` instead of the server's."""
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = clock
        self._held: dict[str, tuple[list[str], int]] = {}

    async def admit(self, asked: Asked) -> Sequence[Window]:
        named = ((_named(subject), rates) for subject, rates in asked.rates)
        ordered = sorted(named, key=itemgetter(0))
        found = await self._all(
            _ADMIT,
            holder=asked.holder,
            subjects=[name for name, _ in ordered],
            requests=[rates.requests_per_minute for _, rates in ordered],
            tokens=[rates.tokens_per_minute for _, rates in ordered],
            runs=[rates.concurrent_runs for _, rates in ordered],
            asked_tokens=asked.tokens,
            asked_runs=asked.runs,
            lease_s=LEASE_S,
        )
        windows = {
            name: Window(
                row.at,
                list(zip(row.slots, row.requests, row.tokens, strict=True)),
                row.runs,
                row.fits,
            )
            for (name, _), row in zip(ordered, found, strict=True)
        }
        if all(window.fits for window in windows.values()):
            leased = [name for name, rates in ordered if rates.concurrent_runs is not None]
            if leased:
                self._held[asked.holder] = (leased, asked.runs)
        return [windows[_named(subject)] for subject, _ in asked.rates]

    async def settle(self, asked: Asked, slot: int, tokens: int, runs: int) -> None:
        leased, held = self._held.pop(asked.holder, ([], 0))
        if held > runs:
            self._held[asked.holder] = (leased, held - runs)
        await self._all(
            _SETTLE,
            holder=asked.holder,
            subjects=sorted(_named(subject) for subject, _ in asked.rates),
            slot=slot,
            tokens=tokens,
            runs=runs if leased else 0,
        )

    async def renew(self) -> None:
        held = [(h, s, runs) for h, (subjects, runs) in self._held.items() for s in subjects]
        if held:
            holders, subjects, runs = map(list, zip(*held, strict=True))
            await self._run(_RENEW, holders=holders, subjects=subjects, runs=runs, lease_s=LEASE_S)
        await self._run(_SWEEP)

    async def _all(self, statement: TextClause, **values: object) -> Sequence[Row[Any]]:
        values["at"] = self._clock() if self._clock else None
        with refusals():
            async with self._engine.connect() as connection:
                return (await connection.execute(statement, values)).all()

    async def _run(self, statement: TextClause, **values: object) -> None:
        values["at"] = self._clock() if self._clock else None
        with refusals():
            async with self._engine.connect() as connection:
                await connection.execute(statement, values)


def _named(subject: Subject) -> str:
    return f"{subject.project_id}/{subject}"
