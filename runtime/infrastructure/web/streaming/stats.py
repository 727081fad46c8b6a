"""`GET /api/streaming/stats`: how the streams, the connections and the providers are doing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runtime.application.queries.statistics import Statistics, StatisticsQueries
from runtime.application.services.run_statistics import RunFigures
from runtime.domain.services.models import ModelHealth, ProviderHealth
from runtime.domain.value_objects.chat import Usage
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided

router = APIRouter(prefix="/api/streaming", tags=["Streaming"])

Quantiles = Annotated[
    dict[str, float],
    Field(description="`p50`, `p95` and `p99` of the latest 512; empty before the first."),
]


class Tokens(BaseModel):
    input: int
    output: int
    cached: int
    reasoning: int
    total: int

    @classmethod
    def of(cls, usage: Usage) -> "Tokens":
        return cls(
            input=usage.input_tokens,
            output=usage.output_tokens,
            cached=usage.cached_tokens,
            reasoning=usage.reasoning_tokens,
            total=usage.total_tokens,
        )


class StreamingOut(BaseModel):
    """Runs of every door."""

    active_sessions: int = Field(description="Runs that go on.")
    total_requests: int
    errors: int
    cancelled: int
    error_rate: float = Field(description="Failed runs of those that ended, 0 to 1.")
    first_token_ms: Quantiles
    response_time_ms: Quantiles
    tokens: Tokens
    cost_usd: float | None = Field(
        description="Of the runs whose models have prices; null for who is not an admin."
    )

    @classmethod
    def of(cls, runs: RunFigures, *, with_cost: bool) -> "StreamingOut":
        return cls(
            active_sessions=runs.active,
            total_requests=runs.requests,
            errors=runs.errors,
            cancelled=runs.cancelled,
            error_rate=runs.error_rate,
            first_token_ms=_plain(runs.first_token.quantiles()),
            response_time_ms=_plain(runs.duration.quantiles()),
            tokens=Tokens.of(runs.usage),
            cost_usd=float(runs.cost) if with_cost else None,
        )


class ConnectionsOut(BaseModel):
    active_connections: int
    total_connections: int
    active_requests: int


class ModelOut(BaseModel):
    model: str = Field(description="`provider/name`.")
    circuit: str = Field(description="`closed`, `open` or `half_open`.")
    requests: int
    errors: int
    fallbacks: int = Field(description="Calls that another model was asked to answer.")
    active: int
    error_rate: float
    first_token_ms: Quantiles
    response_time_ms: Quantiles
    tokens: Tokens
    last_error: str | None = Field(description="The code of the last failure.")

    @classmethod
    def of(cls, model: ModelHealth) -> "ModelOut":
        ended = model.requests - model.active
        return cls(
            model=model.model,
            circuit=model.breaker,
            requests=model.requests,
            errors=model.errors,
            fallbacks=model.fallbacks,
            active=model.active,
            error_rate=round(model.errors / ended, 4) if ended else 0.0,
            first_token_ms=_plain(model.first_token_ms),
            response_time_ms=_plain(model.latency_ms),
            tokens=Tokens.of(model.usage),
            last_error=model.last_error,
        )


class ProviderOut(BaseModel):
    status: str = Field(description="`healthy`, `degraded`, `unhealthy` or `disabled`.")
    type: str
    active: int
    models: list[ModelOut] = Field(description="Those that were called.")

    @classmethod
    def of(cls, health: ProviderHealth) -> "ProviderOut":
        return cls(
            status=health.status,
            type=health.type,
            active=health.active,
            models=[ModelOut.of(model) for model in health.models],
        )


EXAMPLE: dict[str, Any] = {
    "since": "2026-11-21T09:00:00Z",
    "providers": {"demo": {"status": "healthy", "type": "demo", "active": 0, "models": []}},
    "streaming": {
        "active_sessions": 1,
        "total_requests": 12,
        "errors": 0,
        "cancelled": 1,
        "error_rate": 0.0,
        "first_token_ms": {"p50": 2.1, "p95": 4.0, "p99": 4.2},
        "response_time_ms": {"p50": 20.5, "p95": 31.0, "p99": 33.8},
        "tokens": {"input": 96, "output": 240, "cached": 0, "reasoning": 0, "total": 336},
        "cost_usd": 0.0,
    },
    "websocket": {"active_connections": 1, "total_connections": 3, "active_requests": 1},
}


class StatsOut(BaseModel):
    model_config = {"json_schema_extra": {"examples": [EXAMPLE]}}

    since: datetime = Field(description="When this process began to count.")
    providers: dict[str, ProviderOut]
    streaming: StreamingOut
    websocket: ConnectionsOut

    @classmethod
    def of(cls, found: Statistics) -> "StatsOut":
        return cls(
            since=found.since,
            providers={each.provider: ProviderOut.of(each) for each in found.providers},
            streaming=StreamingOut.of(found.runs, with_cost=found.with_cost),
            websocket=ConnectionsOut(
                active_connections=found.connections.open,
                total_connections=found.connections.total,
                active_requests=found.connections.requests,
            ),
        )


@router.get("/stats")
async def get_stats(
    caller: Caller,
    queries: Annotated[StatisticsQueries, provided(lambda c: c.statistics_queries())],
) -> StatsOut:
    """Of the caller's project and of the replica that answers, since it began."""
    return StatsOut.of(queries.get(caller))


def _plain(quantiles: Mapping[str, float]) -> dict[str, float]:
    return dict(quantiles)
