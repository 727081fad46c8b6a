import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from runtime.application.services.authentication import CredentialAuthenticator
from runtime.domain.errors import DatabaseUnavailable
from runtime.domain.events.agents import AgentDeleted, AgentEvent, AgentRevoked
from runtime.domain.events.keys import KeyEvent
from runtime.domain.events.limits import RulesChanged
from runtime.infrastructure.container import Container
from runtime.infrastructure.database import upgrade
from runtime.infrastructure.redaction import redacted

SWEEP_EVERY_S = 30


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
        opened.push_async_callback(container.egress().aclose)
        opened.push_async_callback(_write_key_uses, container.authenticator())
        opened.push_async_callback(container.models().aclose)
        opened.push_async_callback(container.recorder().stop)
        container.recorder().start()
        opened.push_async_callback(container.quotas().stop)
        await container.quotas().start()
        opened.push_async_callback(container.instances().aclose)
        opened.push_async_callback(container.template_watcher().stop)
        await container.template_watcher().start()
        _subscribe(container)
        await container.seed_first_agent()()
        await opened.enter_async_context(_sweeping(container))
        yield
        container.admission().open = False


def _subscribe(container: Container) -> None:
    events, instances = container.events(), container.instances()
    events.subscribe(AgentEvent, container.catalogue().forget)
    events.subscribe(KeyEvent, container.authenticator().forget)
    events.subscribe(RulesChanged, container.rulebook().load)

    async def drop(event: AgentEvent) -> None:
        instances.drop(event.agent_id)

    events.subscribe(AgentDeleted, drop)
    events.subscribe(AgentRevoked, drop)


@asynccontextmanager
async def _sweeping(container: Container) -> AsyncIterator[None]:
    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            container.instances().sweep()
            await _write_key_uses(container.authenticator())

    task = asyncio.create_task(sweep(), name="instance-sweeper")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _write_key_uses(authenticator: CredentialAuthenticator) -> None:
    with suppress(DatabaseUnavailable):
        await authenticator.write_uses()
