from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.services.quotas import RateLimiter


def rate_limiter(engine: AsyncEngine) -> RateLimiter:
    """Replicas share what they have in common: a PostgreSQL database. A SQLite file has one."""
    if engine.dialect.name == "postgresql":
        from runtime.infrastructure.quotas.postgresql import PostgresRateLimiter

        return PostgresRateLimiter(engine)
    from runtime.infrastructure.quotas.memory import MemoryRateLimiter

    return MemoryRateLimiter()
