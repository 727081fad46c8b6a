import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from runtime.application.services.authentication import CredentialAuthenticator
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.events.agents import AgentDeleted, AgentEvent, AgentRevoked
from runtime.domain.events.keys import KeyEvent
from runtime.domain.events.limits import RulesChanged
from runtime.domain.events.providers import ProvidersChanged
from runtime.domain.events.webhooks import DeliveriesQueued
from runtime.infrastructure.container import Container
from runtime.infrastructure.database import upgrade
from runtime.infrastructure.redaction import redacted

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 30
PRUNE_EVERY_S = 3_600


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[None]:
    """Everything that has to be opened, in order, and closed again in the opposite one."""
    container.started_at()
    async with AsyncExitStack() as opened:
        opened.callback(redacted.know(container.settings().secrets))
        container.vault()
        if tracing := container.tracing():
            opened.push_async_callback(tracing.aclose)
        opened.push_async_callback(container.engine().dispose)
        await upgrade(container.engine())
        opened.push_async_callback(container.run_signals().stop)
        await container.run_signals().start()
        opened.push_async_callback(container.heart().stop)
        await container.heart().start()
        opened.push_async_callback(container.egress().aclose)
        opened.push_async_callback(_write_key_uses, container.authenticator())
        opened.push_async_callback(container.models().aclose)
        opened.push_async_callback(container.recorder().stop)
        container.recorder().start()
        opened.push_async_callback(container.idempotent_requests().stop)
        container.idempotent_requests().start()
        opened.push_async_callback(container.session_log().aclose)
        opened.push_async_callback(container.session_desk().stop)
        container.session_desk().start()
        opened.push_async_callback(container.caretaker().stop)
        container.caretaker().start()
        opened.push_async_callback(container.live_streams().aclose)
        opened.push_async_callback(container.connections().stop)
        opened.push_async_callback(container.quotas().stop)
        await container.quotas().start()
        opened.push_async_callback(container.instances().aclose)
        opened.push_async_callback(container.template_watcher().stop)
        await container.template_watcher().start()
        opened.push_async_callback(container.courier().stop)
        if container.settings().role != "api":
            container.courier().start()
        _subscribe(container)
        await container.models().start()
        await container.seed_first_agent()()
        opened.push_async_callback(container.dispatcher().stop)
        if container.settings().role != "api":
            await container.dispatcher().start(container.run_worker().begin)
            opened.push_async_callback(container.scheduler().stop)
            container.scheduler().start()
        await opened.enter_async_context(_sweeping(container))
        await opened.enter_async_context(_pruning(container))
        yield
        container.admission().open = False


def _subscribe(container: Container) -> None:
    events, instances = container.events(), container.instances()
    events.subscribe(AgentEvent, container.catalogue().forget)
    events.subscribe(KeyEvent, container.authenticator().forget)
    events.subscribe(RulesChanged, container.rulebook().load)
    events.subscribe(ProvidersChanged, container.models().reload)
    events.subscribe(DeliveriesQueued, container.courier().wake)

    async def drop(event: AgentEvent) -> None:
        instances.drop(event.agent_id)

    events.subscribe(AgentDeleted, drop)
    events.subscribe(AgentRevoked, drop)


@asynccontextmanager
async def _sweeping(container: Container) -> AsyncIterator[None]:
    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                container.instances().sweep()
                await _write_key_uses(container.authenticator())
                with suppress(DatabaseUnavailable):
                    await container.idempotent_requests().prune()
            # It outlives whatever is wrong with one sweep.
            except Exception:
                logger.exception("what is idle could not be swept away")

    async with _beside(sweep(), "instance-sweeper"):
        yield


@asynccontextmanager
async def _pruning(container: Container) -> AsyncIterator[None]:
    async def prune() -> None:
        while True:
            await container.retention()()
            await asyncio.sleep(PRUNE_EVERY_S)

    async with _beside(prune(), "retention"):
        yield


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _write_key_uses(authenticator: CredentialAuthenticator) -> None:
    with suppress(DatabaseUnavailable):
        await authenticator.write_uses()
