import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from runtime.domain.events.agents import AgentDeleted, AgentEvent, AgentRevoked
from runtime.infrastructure.container import Container
from runtime.infrastructure.database import upgrade

SWEEP_EVERY_S = 30


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[None]:
    """Everything that has to be opened, in order, and closed again in the opposite one."""
    await upgrade(container.engine())
    _subscribe(container)
    watcher, recorder = container.template_watcher(), container.recorder()
    await watcher.start()
    await container.seed_first_agent()()
    recorder.start()
    sweeping = asyncio.create_task(_sweep(container), name="instance-sweeper")
    try:
        yield
    finally:
        container.admission().open = False
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        await watcher.stop()
        await container.instances().aclose()
        await recorder.stop()
        await container.models().aclose()
        await container.engine().dispose()


def _subscribe(container: Container) -> None:
    events, instances = container.events(), container.instances()
    events.subscribe(AgentEvent, container.catalogue().forget)

    async def drop(event: AgentEvent) -> None:
        instances.drop(event.agent_id)

    events.subscribe(AgentDeleted, drop)
    events.subscribe(AgentRevoked, drop)


async def _sweep(container: Container) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        container.instances().sweep()
