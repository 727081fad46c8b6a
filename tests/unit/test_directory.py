"""Which providers a project has, and what becomes of them when they are changed."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from runtime.domain.entities.providers import Provider, ProviderMark, ProviderModel
from runtime.domain.errors import (
    DatabaseUnavailable,
    InvalidValue,
    UpstreamMisconfigured,
    UpstreamTimeout,
)
from runtime.domain.events.runs import TextDelta
from runtime.domain.repositories.providers import ProviderBook
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.ids import ProjectId, ProviderId, UserId
from runtime.domain.value_objects.providers import Fallback
from runtime.infrastructure.providers.directory import Directory
from runtime.infrastructure.providers.live import LiveProvider
from runtime.infrastructure.providers.service import PooledModelServices
from tests.fakes_models import Fixed

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OURS, THEIRS = ProjectId("ours"), ProjectId("theirs")
HELLO = [Message(ChatRole.USER, "Hello")]


class Echo:
    default_model = "m"
    formats: frozenset[str] = frozenset()

    def __init__(self, name: str, said: str = "") -> None:
        self.name = name
        self.said = said or name
        self.closed = False
        self.called = asyncio.Event()
        self.fails_after: asyncio.Event | None = None

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        self.called.set()
        if self.fails_after:
            await self.fails_after.wait()
            raise UpstreamTimeout("It did not answer.")
        yield TextDelta(f"{self.said} {model}")
        yield ModelFinished("stop", model)

    async def aclose(self) -> None:
        self.closed = True


class Book(ProviderBook):
    def __init__(self, *stored: Provider) -> None:
        self.stored = list(stored)
        self.down = False
        self.read = asyncio.Event()
        self.whole_reads = 0
        self.waits = asyncio.Event()
        self.slowly: asyncio.Event | None = None
        """What the next whole read waits for, once it has read."""

    async def marks(self) -> Mapping[tuple[ProjectId, ProviderId], ProviderMark]:
        if self.down:
            raise DatabaseUnavailable
        self.read.set()
        return {(each.project_id, each.id): each.mark for each in self.stored}

    async def providers(self) -> Sequence[Provider]:
        self.whole_reads += 1
        found, slowly, self.slowly = self.stored, self.slowly, None
        if slowly:
            self.waits.set()
            await slowly.wait()
        return found


def provider(id: str, project: ProjectId = OURS, **fields: object) -> Provider:
    return Provider(
        id=ProviderId(id),
        project_id=project,
        owner_id=UserId("ada"),
        type="test",
        created_at=NOW,
        updated_at=NOW,
        **fields,  # type: ignore[arg-type] # as in Provider
    )


class Broken:
    id = "bad"

    def __call__(self) -> Echo:
        raise UpstreamMisconfigured("It can't be called.")

    async def aclose(self) -> None:
        """Nothing is held."""


class World:
    def __init__(self, *stored: Provider) -> None:
        self.book = Book(*stored)
        self.connected: list[Echo] = []
        self.directory = Directory(
            [LiveProvider(Fixed(Echo("own")), "test")], "own", self.book, self._connect
        )
        self.services = PooledModelServices(self.directory)

    def _connect(self, stored: Provider) -> LiveProvider:
        echo = Echo(stored.id, f"{stored.project_id}'s {stored.id} {stored.revision}")
        self.connected.append(echo)
        return LiveProvider(
            Broken() if stored.base_url == "http://10.0.0.1" else Fixed(echo),
            stored.type,
            project=stored.project_id,
            registered=stored.models,
            default_model=stored.default_model,
            enabled=stored.enabled,
        )

    async def said(self, project: ProjectId, model: str | None) -> str:
        call = ModelCall(model, HELLO)
        async with aclosing(self.services.of(project).stream(call)) as events:
            return "".join([each.text async for each in events if isinstance(each, TextDelta)])


async def test_a_registered_provider_is_its_projects_only() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    assert await world.said(OURS, "mine/x") == "ours's mine 1 x"
    with pytest.raises(InvalidValue, match="the providers are: own"):
        world.services.of(THEIRS).check("mine/x")


async def test_two_projects_may_use_the_same_name() -> None:
    world = World(provider("mine"), provider("mine", THEIRS))
    await world.directory.load()
    assert await world.said(OURS, "mine") == "ours's mine 1 m"
    assert await world.said(THEIRS, "mine") == "theirs's mine 1 m"


async def test_a_projects_own_provider_goes_before_the_operators() -> None:
    world = World(provider("own"))
    await world.directory.load()
    assert await world.said(OURS, None) == "ours's own 1 m"
    assert await world.said(THEIRS, None) == "own m"


async def test_a_registered_model_is_called_by_the_providers_name_for_it() -> None:
    model = ProviderModel(name="large", upstream_name="vendor/large-2026")
    world = World(provider("mine", models=(model,), default_model="large"))
    await world.directory.load()
    assert await world.said(OURS, "mine/large") == "ours's mine 1 vendor/large-2026"
    assert await world.said(OURS, "mine") == "ours's mine 1 vendor/large-2026"


async def test_a_change_is_in_force_at_the_next_load_and_keeps_the_figures() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    await world.said(OURS, "mine/x")
    world.book.stored = [provider("mine", revision=2)]
    await world.directory.load()
    assert await world.said(OURS, "mine/x") == "ours's mine 2 x"
    (health, _) = world.services.health(OURS)
    assert health.models[0].requests == 2
    assert [each.closed for each in world.connected] == [True, False]


async def test_what_did_not_change_is_not_connected_again() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    await world.directory.load()
    assert len(world.connected) == world.book.whole_reads == 1


async def test_a_read_that_was_overtaken_does_not_undo_a_change() -> None:
    world = World(provider("mine"))
    released = world.book.slowly = asyncio.Event()
    slow = asyncio.create_task(world.directory.load())
    await world.book.waits.wait()
    world.book.stored = [provider("mine", revision=2), provider("new")]
    fast = asyncio.create_task(world.directory.load())
    await asyncio.wait([fast], timeout=0.05)
    released.set()
    await asyncio.gather(slow, fast)
    assert await world.said(OURS, "mine") == "ours's mine 2 m"
    assert world.directory.find(OURS, "new")


async def test_a_provider_that_is_removed_is_closed_after_its_last_call() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    async with aclosing(world.services.of(OURS).stream(ModelCall("mine", HELLO))) as events:
        await anext(events)
        world.book.stored = []
        await world.directory.load()
        with pytest.raises(InvalidValue):
            world.services.of(OURS).check("mine")
        assert not world.connected[0].closed
        assert [event async for event in events]
    await world.directory.load()
    assert world.connected[0].closed


async def test_a_fallback_that_is_changed_before_its_turn_still_answers() -> None:
    model = ProviderModel(name="m", upstream_name="m", fallbacks=(Fallback("second"),))
    world = World(provider("first", models=(model,)), provider("second"))
    await world.directory.load()
    first, second = world.connected
    first.fails_after = asyncio.Event()
    asked = asyncio.create_task(world.said(OURS, "first/m"))
    await first.called.wait()

    world.book.stored = [world.book.stored[0], provider("second", revision=2)]
    await world.directory.load()
    assert not second.closed
    first.fails_after.set()
    assert await asked == "ours's second 1 m"
    await world.directory.load()
    assert second.closed


async def test_places_that_are_taken_stay_so_when_the_provider_is_changed() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    async with aclosing(world.services.of(OURS).stream(ModelCall("mine", HELLO))) as events:
        await anext(events)
        world.book.stored = [provider("mine", revision=2)]
        await world.directory.load()
        assert [each.active for each in world.services.health(OURS)] == [1, 0]
    assert [each.active for each in world.services.health(OURS)] == [0, 0]


async def test_a_test_call_is_of_what_is_stored_now_whichever_replica_stored_it() -> None:
    world = World()
    await world.directory.load()
    world.book.stored = [provider("mine")]
    assert (await world.services.probe(OURS, "mine")).error is None


async def test_what_was_known_stays_in_force_while_the_database_is_away() -> None:
    world = World(provider("mine"))
    await world.directory.load()
    world.book.down = True
    with pytest.raises(DatabaseUnavailable):
        await world.directory.load()
    assert await world.said(OURS, "mine") == "ours's mine 1 m"


async def test_a_provider_that_cant_be_called_says_why_and_hurts_no_other() -> None:
    world = World(provider("mine"), provider("bad", base_url="http://10.0.0.1"))
    await world.directory.load()
    with pytest.raises(UpstreamMisconfigured):
        await world.said(OURS, "bad/x")
    assert await world.said(OURS, "mine") == "ours's mine 1 m"


async def test_a_fallback_that_is_gone_is_passed_over() -> None:
    model = ProviderModel(
        name="m", upstream_name="m", fallbacks=(Fallback("gone/x"), Fallback("own"))
    )
    world = World(provider("mine", models=(model,)))
    await world.directory.load()
    names = [each.name for each in world.directory.route(OURS, "mine/m")]
    assert names == ["mine/m", "own/m"]


async def test_it_reads_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.infrastructure.providers.directory.FRESH_S", 0.01)
    world = World()
    await world.directory.start()
    world.book.stored = [provider("mine")]
    for _ in range(2):  # The first of these reads may have begun before.
        world.book.read.clear()
        await asyncio.wait_for(world.book.read.wait(), 5)
    assert world.directory.find(OURS, "mine")
    await world.directory.aclose()
    assert world.connected[0].closed


async def test_names_that_callers_invent_displace_no_breaker_that_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.infrastructure.providers.live.MOST_MODELS", 3)
    model = ProviderModel(name="registered", upstream_name="registered")
    world = World(provider("mine", models=(model,)))
    await world.directory.load()
    known = [world.directory.model(OURS, f"mine/{name}") for name in ("registered", "often")]
    for n in range(10):
        world.directory.model(OURS, f"mine/{n}")
        assert [world.directory.model(OURS, each.name) for each in known] == known
    assert len(known[0].provider.models) == 3


async def test_a_test_call_goes_past_the_breaker_and_closes_it() -> None:
    world = World()
    model = world.directory.model(OURS, "own")
    for _ in range(5):
        model.breaker.leave("failure", probe=False)
    probed = await world.services.probe(OURS, "own")
    assert (probed.provider, probed.model, probed.error) == ("own", "m", None)
    assert model.breaker.admits
