from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.signals import RunSignals


def run_signals(engine: AsyncEngine) -> RunSignals:
    if engine.dialect.name == "postgresql":
        from runtime.infrastructure.signals.postgresql import PostgresqlSignals

        return PostgresqlSignals(engine)
    from runtime.infrastructure.signals.sqlite import SqliteSignals

    return SqliteSignals(engine)
