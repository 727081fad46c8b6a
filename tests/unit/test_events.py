from runtime.domain.events.agents import AgentEvent, AgentPublished, AgentRevoked
from runtime.domain.value_objects.ids import AgentId, LineId
from runtime.infrastructure.events import EventBus
from tests.fakes import Published

PUBLISHED = AgentPublished(AgentId("agent_1"), LineId("line_1"))
REVOKED = AgentRevoked(AgentId("agent_1"), LineId("line_1"))


async def test_a_subscriber_gets_the_events_of_its_type_and_its_subtypes() -> None:
    bus = EventBus()
    one, every = Published(), Published()
    bus.subscribe(AgentRevoked, one)
    bus.subscribe(AgentEvent, every)
    await bus.publish(PUBLISHED)
    await bus.publish(REVOKED)

    assert one == [REVOKED]
    assert every == [PUBLISHED, REVOKED]


async def test_a_failing_subscriber_keeps_no_other_from_the_event() -> None:
    async def fail(event: AgentEvent) -> None:
        raise RuntimeError("broken subscriber")

    bus = EventBus()
    after = Published()
    bus.subscribe(AgentPublished, fail)
    bus.subscribe(AgentPublished, after)
    await bus.publish(PUBLISHED)

    assert after == [PUBLISHED]
