"""What runs know from earlier ones: whose it is, and what it may be."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.memories import MAX_TEXT, MAX_VALUE_BYTES
from runtime.domain.errors import Forbidden, InvalidValue, MemoryFull
from runtime.domain.events.runs import RunEvent
from runtime.domain.services.executor import RunInput
from runtime.domain.services.memories import RunMemory
from runtime.domain.value_objects.ids import ProjectId, UserId, new_line_id
from runtime.templates.base import BaseAgentTemplate
from tests.fakes import MemoryStore
from tests.fakes_models import an_agent, asks, memory_book

ANN, BOB = UserId("ann"), UserId("bob")


class Plain(BaseAgentTemplate):
    template_id = "plain"
    template_name = "Plain"

    async def stream_execute(self, input: RunInput) -> AsyncGenerator[RunEvent]:
        raise NotImplementedError
        yield


class World:
    """One store, seen by runs of several users and agents."""

    def __init__(self, most: int = 1_000) -> None:
        self.book = memory_book(MemoryStore(), most)
        self.agent = an_agent(Plain)
        self.other_agent: Agent = replace(an_agent(Plain), line_id=new_line_id())

    def memory(
        self,
        user: UserId = ANN,
        *,
        agent: Agent | None = None,
        project: str = "default",
        shares: bool = False,
    ) -> RunMemory:
        input = replace(asks("Hi"), user_id=user, project_id=ProjectId(project))
        return self.book.of(input, agent or self.agent, shares=shares)


@pytest.fixture
def world() -> World:
    return World()


async def texts(memory: RunMemory) -> list[str]:
    return [fact.text for fact in await memory.list()]


async def test_a_later_run_of_the_same_user_and_agent_knows(world: World) -> None:
    await world.memory().remember("Drinks green tea.", tags=["habit"])

    assert await texts(world.memory()) == ["Drinks green tea."]
    [found] = await world.memory().search("what tea?")
    assert (found.fact.text, found.fact.tags) == ("Drinks green tea.", ("habit",))
    assert found.score > 0


async def test_nobody_else_and_no_other_agent_knows_what_one_agent_was_told(world: World) -> None:
    fact = await world.memory().remember("Ann's secret.", key="secret")
    others = (
        world.memory(BOB, shares=True),
        world.memory(agent=world.other_agent),
        world.memory(project="elsewhere"),
    )

    for other in others:
        assert await texts(other) == []
        assert await other.search("secret") == []
        assert await other.find("secret") is None
        assert not await other.forget("secret")
        assert not await other.forget(fact.id)
    assert await texts(world.memory()) == ["Ann's secret."]


async def test_what_is_of_the_user_is_known_to_each_of_their_agents(world: World) -> None:
    await world.memory().remember("Speaks German.", scope="user")

    assert await texts(world.memory(agent=world.other_agent)) == ["Speaks German."]
    assert await texts(world.memory(BOB)) == []


async def test_only_a_template_that_may_writes_what_is_shared(world: World) -> None:
    with pytest.raises(Forbidden):
        await world.memory().remember("Open until five.", scope="shared")

    fact = await world.memory(shares=True).remember("Open until five.", scope="shared")
    assert await texts(world.memory(BOB, agent=world.other_agent)) == ["Open until five."]
    with pytest.raises(Forbidden):
        await world.memory(BOB).forget(fact.id)


async def test_doing_it_twice_leaves_one(world: World) -> None:
    memory = world.memory()
    for _ in range(2):
        await memory.remember("Drinks tea.")
        await memory.remember("Lives in Kiel.", key="home", value={"city": "Kiel"})

    assert sorted(await texts(memory)) == ["Drinks tea.", "Lives in Kiel."]
    home = await memory.find("home")
    assert home is not None
    assert home.value == {"city": "Kiel"}


async def test_what_is_forgotten_by_key_or_id_is_gone(world: World) -> None:
    memory = world.memory()
    fact = await memory.remember("Drinks tea.")
    await memory.remember("Lives in Kiel.", key="home")

    assert await memory.forget("home")
    assert await memory.forget(fact.id)
    assert not await memory.forget("home")
    assert await texts(memory) == []


async def test_a_user_has_so_many_memories_and_no_more() -> None:
    world = World(most=2)
    memory = world.memory()
    for name in ("One.", "Two.", "Two."):
        await memory.remember(name)

    with pytest.raises(MemoryFull, match="2"):
        await memory.remember("Three.")
    await world.memory(BOB).remember("One.")
    assert sorted(await texts(memory)) == ["One.", "Two."]


@pytest.mark.parametrize(
    "fields",
    [
        {"text": " "},
        {"text": "x" * (MAX_TEXT + 1)},
        {"value": "x" * MAX_VALUE_BYTES},
        {"value": float("nan")},
        {"value": object()},
        {"key": ""},
        {"key": "x" * 257},
        {"tags": ["x"] * 17},
        {"tags": [" "]},
        {"scope": "everybody"},
        {"expires_in_s": 0},
        {"expires_in_s": 1e18},
        {"namespace": "x" * 257},
    ],
    ids=str,
)
async def test_what_no_memory_can_be_is_refused(world: World, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        await world.memory().remember(**{"text": "Fine.", **fields})  # type: ignore[arg-type]
    assert await texts(world.memory()) == []
