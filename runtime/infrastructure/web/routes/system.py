"""The runtime's own state: schema and health for the platform, probes for an orchestrator."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from runtime import __version__
from runtime.application.queries.health import CheckResult, Health, HealthQueries
from runtime.application.queries.schema import RuntimeSchema, SchemaQueries
from runtime.domain.services.templates import TemplateInfo
from runtime.domain.value_objects.identity import KeyScope
from runtime.infrastructure.web.auth import Caller, needs
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.templates import SectionOut

router = APIRouter(tags=["System"])

VERSION = Header(
    alias="X-Schema-Version",
    description="The version you know, as 1.0.0; another major version → 409.",
    json_schema_extra={"pattern": r"^v?[0-9]{1,8}(\.[0-9]{1,8}){0,2}$"},
)


class ConfigSchemaOut(BaseModel):
    jsonSchema: dict[str, Any]
    sections: list[SectionOut]


class SupportedTemplate(BaseModel):
    template_name: str
    template_id: str
    version: str
    description: str
    framework: str
    configSchema: ConfigSchemaOut

    @classmethod
    def of(cls, info: TemplateInfo) -> "SupportedTemplate":
        return cls(
            template_name=info.name,
            template_id=info.ref.id,
            version=info.ref.version,
            description=info.description,
            framework=info.framework,
            configSchema=ConfigSchemaOut(
                jsonSchema=dict(info.json_schema),
                sections=[SectionOut.of(section) for section in info.sections],
            ),
        )


class Capabilities(BaseModel):
    streaming: bool = True
    toolCalling: bool = True
    multimodal: bool = True
    codeExecution: bool = False


class Limits(BaseModel):
    maxConcurrentAgents: int
    maxMessageLength: int = Field(description="Of a whole request, in bytes.")
    maxConversationHistory: int = Field(description="Messages in one request.")


class SchemaOut(BaseModel):
    version: str
    lastUpdated: datetime
    supportedAgentTemplates: list[SupportedTemplate]
    capabilities: Capabilities
    limits: Limits

    @classmethod
    def of(cls, schema: RuntimeSchema) -> "SchemaOut":
        return cls(
            version=schema.version,
            lastUpdated=schema.last_updated,
            supportedAgentTemplates=[SupportedTemplate.of(info) for info in schema.templates],
            capabilities=Capabilities(),
            limits=Limits(
                maxConcurrentAgents=schema.max_concurrent_agents,
                maxMessageLength=schema.max_message_length,
                maxConversationHistory=schema.max_conversation_history,
            ),
        )


class CheckOut(BaseModel):
    status: str
    response_time_ms: float
    last_check: datetime

    @classmethod
    def of(cls, result: CheckResult) -> "CheckOut":
        return cls(
            status=result.status,
            response_time_ms=round(result.response_time_ms, 2),
            last_check=result.last_check,
        )


class MetricsOut(BaseModel):
    active_agents: int
    running: int
    total_executions: int
    average_response_time_ms: float
    error_rate: float = Field(description="Failed runs of all runs, 0 to 1.")


class HealthOut(BaseModel):
    status: str
    version: str
    uptime_seconds: float
    last_sync: datetime
    checks: dict[str, CheckOut]
    metrics: MetricsOut

    @classmethod
    def of(cls, health: Health) -> "HealthOut":
        totals = health.totals
        return cls(
            status=health.status,
            version=__version__,
            uptime_seconds=round(health.uptime_s, 3),
            last_sync=max(check.last_check for check in health.checks.values()),
            checks={name: CheckOut.of(result) for name, result in health.checks.items()},
            metrics=MetricsOut(
                active_agents=health.active_agents,
                running=health.running,
                total_executions=totals.runs,
                average_response_time_ms=round(totals.average_duration_ms, 1),
                error_rate=round(totals.failed / totals.runs, 4) if totals.runs else 0.0,
            ),
        )


class Probe(BaseModel):
    status: str


@router.get(
    "/v1/schema",
    dependencies=[needs(KeyScope.SYSTEM)],
    responses={**PLATFORM_ERRORS, **errors_of(409)},
)
async def get_schema(
    caller: Caller,
    queries: Annotated[SchemaQueries, provided(lambda c: c.schema_queries())],
    required: Annotated[str | SkipJsonSchema[None], VERSION] = None,
) -> SchemaOut:
    """The templates and their schemas, for a platform that shows the forms."""
    return SchemaOut.of(queries.get(required))


@router.get("/v1/health", responses={**errors_of(401, 403), 503: {"model": HealthOut}})
async def get_health(
    caller: Caller,
    response: Response,
    queries: Annotated[HealthQueries, provided(lambda c: c.health_queries())],
) -> HealthOut:
    """The true state of every part; 503 when one that is needed is down."""
    health = await queries.get(caller)
    if health.status == "unhealthy":
        response.status_code = 503
    return HealthOut.of(health)


@router.get("/healthz")
async def is_alive() -> Probe:
    """The process answers."""
    return Probe(status="ok")


@router.get("/readyz", responses={503: {"model": Probe}})
async def is_ready(
    response: Response,
    queries: Annotated[HealthQueries, provided(lambda c: c.health_queries())],
) -> Probe:
    """New requests are welcome."""
    if await queries.ready():
        return Probe(status="ready")
    response.status_code = 503
    return Probe(status="not ready")
