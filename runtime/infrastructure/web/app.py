from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from runtime import __version__
from runtime.infrastructure.container import Container
from runtime.infrastructure.lifespan import running
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.web import docs, errors
from runtime.infrastructure.web.gateway import agents as gateway_agents
from runtime.infrastructure.web.gateway import messages as gateway_messages
from runtime.infrastructure.web.gateway import models as gateway_models
from runtime.infrastructure.web.gateway import system as gateway_system
from runtime.infrastructure.web.middleware import (
    LOOPBACK,
    BodyLimit,
    BrowserGuard,
    RequestContext,
)
from runtime.infrastructure.web.openai import chat, completions, conversations, embeddings, models
from runtime.infrastructure.web.openai.responses import routes as responses
from runtime.infrastructure.web.routes import (
    agents,
    approvals,
    keys,
    limits,
    memories,
    metrics,
    prices,
    providers,
    run_events,
    run_history,
    runs,
    schedules,
    system,
    templates,
    webhook_messages,
    webhooks,
)
from runtime.infrastructure.web.streaming import providers as streaming_providers
from runtime.infrastructure.web.streaming import routes as streaming
from runtime.infrastructure.web.streaming import stats
from runtime.infrastructure.web.websocket import door as websocket

DESCRIPTION = """Agents that engineers template, prompt people fill in and reviewers approve,
called as ordinary OpenAI models."""


ROUTERS = (
    chat.router,
    completions.router,
    responses.router,
    models.router,
    embeddings.router,
    streaming.router,
    conversations.router,
    agents.router,
    templates.router,
    runs.router,
    schedules.router,
    run_events.router,
    run_history.router,
    approvals.router,
    keys.router,
    memories.router,
    limits.router,
    prices.router,
    webhooks.router,
    gateway_agents.router,
    gateway_messages.router,
    gateway_system.router,
    providers.router,
    gateway_models.router,
    streaming_providers.router,
    system.router,
    metrics.router,
    stats.router,
    docs.router,
)
WORKER_ROUTERS = (system.router, metrics.router)
"""Of a process that carries out durable runs and serves nobody: for probes."""


def create_app(container: Container) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(container):
            yield

    app = FastAPI(
        title="Agent runtime",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own records refused inputs and errors' texts, wherever a global provider is set.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.container = container
    errors.install(app)
    settings = container.settings()
    works = settings.role == "worker"
    routers = WORKER_ROUTERS if works else ROUTERS
    # FastAPI keeps included routers closed; a refused method is answered with the open ones.
    app.state.routes = [
        route
        for each in (app.router, *routers)
        for route in each.routes
        if isinstance(route, Route)
    ]
    for router in routers:
        app.include_router(router)
    webhook_messages.describe(app)
    if not works:
        # First: it is quick to see that it does not fit, and there are many others.
        app.router.routes.insert(0, websocket.ROUTE)
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(BrowserGuard, hosts=_hosts(settings))
    app.add_middleware(RequestContext, monitor=container.request_monitor())
    return app


def _hosts(settings: Settings) -> frozenset[str] | None:
    """Where anybody on loopback is the admin, a web page must not get in by DNS rebinding."""
    named = frozenset(host.lower() for host in settings.allowed_hosts)
    if settings.has_credential and not named:
        return None
    return LOOPBACK | named | {settings.host.lower()}
