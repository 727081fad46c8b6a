from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from runtime.domain.entities.memories import Fact, MemoryScope
from runtime.domain.errors import ConcurrentChange, InvalidValue, MemoryExists, MemoryNotFound
from runtime.domain.repositories.memories import FactFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import (
    LineId,
    MemoryId,
    ProjectId,
    RunId,
    UserId,
    new_memory_id,
)
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    all_of,
    minutes_past_noon,
)

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
SUPPORT = LineId("line_support")
SALES = LineId("line_sales")
EVER = FactFilter(at=NOON)


def a_fact(
    text: str = "Drinks tea.",
    *,
    owner: UserId = ANN,
    project: ProjectId = PROJECT,
    scope: MemoryScope = MemoryScope.USER,
    line: LineId | None = None,
    namespace: str = "",
    key: str | None = None,
    value: object = None,
    tags: Sequence[str] = (),
    at: datetime = NOON,
    expires_at: datetime | None = None,
) -> Fact:
    return Fact(
        id=new_memory_id(),
        project_id=project,
        owner_id=owner,
        scope=scope,
        line_id=line,
        namespace=namespace,
        key=key,
        text=text,
        value=value,
        tags=tags,
        run_id=RunId("run_1"),
        created_at=at,
        updated_at=at,
        expires_at=expires_at,
    )


async def put(uow: UnitOfWorkFactory, *facts: Fact) -> list[Fact]:
    stored = []
    for fact in facts:
        async with uow(Scope(fact.project_id, fact.owner_id)) as work:
            stored.append(await work.memories.put(fact))
            await work.commit()
    return stored


async def texts(uow: UnitOfWorkFactory, scope: Scope, where: FactFilter = EVER) -> list[str]:
    async with uow(scope) as work:
        page = await work.memories.page(where, limit=100, after=None)
    return [fact.text for fact in page.items]


async def search(
    uow: UnitOfWorkFactory, query: str, scope: Scope = ANNS, where: FactFilter = EVER
) -> list[str]:
    async with uow(scope) as work:
        return [found.fact.text for found in await work.memories.search(query, where, limit=10)]


async def test_a_fact_comes_back_as_it_was_put(uow: UnitOfWorkFactory) -> None:
    fact = a_fact(
        scope=MemoryScope.AGENT,
        line=SUPPORT,
        namespace="drinks.hot",
        key="tea",
        value={"cups": [1, 2.5, None]},
        tags=("habit", "morning"),
        expires_at=minutes_past_noon(5),
    )
    await put(uow, fact)

    async with uow(ANNS) as work:
        assert await work.memories.get(fact.id, NOON) == fact
        assert await work.memories.find(fact.identity, NOON) == fact


async def test_a_later_fact_under_one_key_takes_the_place_of_the_earlier(
    uow: UnitOfWorkFactory,
) -> None:
    first = a_fact("Lives in Bonn.", key="home", tags=("old",))
    await put(uow, first)
    later = a_fact("Lives in Kiel.", key="home", at=minutes_past_noon(1))
    [stored] = await put(uow, later)

    assert stored == replace(later, id=first.id, created_at=NOON, revision=2)
    assert await texts(uow, ANNS) == ["Lives in Kiel."]
    assert await search(uow, "Bonn") == []
    assert await search(uow, "Kiel") == ["Lives in Kiel."]


async def test_the_same_text_is_stored_once_in_each_scope(uow: UnitOfWorkFactory) -> None:
    for _ in range(2):
        await put(uow, a_fact(), a_fact(owner=BOB))
        await put(uow, a_fact(scope=MemoryScope.AGENT, line=SUPPORT))
        await put(uow, a_fact(scope=MemoryScope.AGENT, line=SALES))
        await put(uow, a_fact(scope=MemoryScope.SHARED), a_fact(namespace="drinks"))
        await put(uow, a_fact(key="drink"), a_fact(value={"cups": 2}))

    assert len(await texts(uow, ANNS)) == 7
    async with uow(ANNS) as work:
        assert await work.memories.count(NOON) == 7


async def test_what_is_shared_has_one_place_whoever_writes_it(uow: UnitOfWorkFactory) -> None:
    shared = MemoryScope.SHARED
    await put(uow, a_fact("Open until five.", scope=shared, key="hours"))
    [stored] = await put(uow, a_fact("Open until six.", scope=shared, key="hours", owner=BOB))

    assert stored.owner_id == ANN
    assert await texts(uow, ANNS) == await texts(uow, BOBS) == ["Open until six."]
    assert await search(uow, "open", Scope(PROJECT, UserId("eve"))) == ["Open until six."]


async def test_everybody_sees_their_own_and_an_admin_all(uow: UnitOfWorkFactory) -> None:
    anns, bobs, foreign = await put(
        uow,
        a_fact("Ann's tea."),
        a_fact("Bob's tea.", owner=BOB),
        a_fact("Their tea.", project=OTHER_PROJECT),
    )

    assert await texts(uow, ANNS) == await search(uow, "tea") == ["Ann's tea."]
    assert await texts(uow, BOBS) == await search(uow, "tea", BOBS) == ["Bob's tea."]
    assert {*await texts(uow, all_of(PROJECT))} == {"Ann's tea.", "Bob's tea."}
    assert {*await search(uow, "tea", all_of(PROJECT))} == {"Ann's tea.", "Bob's tea."}
    for hidden in (bobs, foreign):
        async with uow(ANNS) as work:
            with pytest.raises(MemoryNotFound):
                await work.memories.get(hidden.id, NOON)
            assert await work.memories.find(hidden.identity, NOON) is None
            with pytest.raises(MemoryNotFound):
                await work.memories.save(hidden)
            with pytest.raises(MemoryNotFound):
                await work.memories.remove(hidden.id)
    async with uow(all_of(PROJECT, BOB)) as work:
        await work.memories.save(replace(anns, text="Ann's coffee."))
        await work.commit()
    assert await texts(uow, ANNS) == ["Ann's coffee."]


async def test_nobody_writes_for_somebody_else(uow: UnitOfWorkFactory) -> None:
    for foreign in (a_fact(owner=BOB), a_fact(project=OTHER_PROJECT)):
        async with uow(all_of(PROJECT, ANN)) as work:
            with pytest.raises(ValueError, match="somebody else"):
                await work.memories.put(foreign)


async def test_the_fact_with_most_of_the_words_comes_first(uow: UnitOfWorkFactory) -> None:
    await put(
        uow,
        a_fact("The user likes green tea in the morning."),
        a_fact("The user likes long walks."),
        a_fact("The user's cat is called Tea Leaf."),
        a_fact("Nothing of this kind at all."),
    )

    found = await search(uow, "Which green TEA does the user drink?")
    assert found[0] == "The user likes green tea in the morning."
    assert "Nothing of this kind at all." not in found
    assert await search(uow, "cat") == ["The user's cat is called Tea Leaf."]
    assert await search(uow, "zebra") == await search(uow, "?!") == await search(uow, "") == []


async def test_a_rare_word_says_more_than_common_ones(uow: UnitOfWorkFactory) -> None:
    await put(uow, *(a_fact(f"The order of day {day} was late.") for day in range(8)))
    await put(uow, a_fact("Allergic to walnuts."))

    found = await search(uow, "was the order late because of walnuts")
    assert found[0].startswith("The order")
    assert (await search(uow, "order walnuts"))[0] == "Allergic to walnuts."


async def test_text_without_spaces_is_found_by_its_parts(uow: UnitOfWorkFactory) -> None:
    await put(
        uow,
        a_fact("用户喜欢喝绿茶。不喜欢咖啡。"),
        a_fact("用户住在上海浦东新区。"),
        a_fact("ユーザーは東京に住んでいます。"),
        a_fact("iPhone手机的订单号是 A-1042"),
    )

    assert (await search(uow, "他喜欢喝什么茶"))[0] == "用户喜欢喝绿茶。不喜欢咖啡。"
    assert (await search(uow, "浦东"))[0] == "用户住在上海浦东新区。"
    assert await search(uow, "茶") == ["用户喜欢喝绿茶。不喜欢咖啡。"]
    assert (await search(uow, "東京"))[0] == "ユーザーは東京に住んでいます。"
    assert await search(uow, "iphone") == ["iPhone手机的订单号是 A-1042"]
    assert await search(uow, "1042") == ["iPhone手机的订单号是 A-1042"]
    assert await search(uow, "北京") == []


async def test_keys_and_tags_are_searched_too(uow: UnitOfWorkFactory) -> None:
    await put(uow, a_fact("Blue.", key="favourite colour"), a_fact("Rex.", tags=("dog",)))

    assert await search(uow, "colour") == ["Blue."]
    assert await search(uow, "dog") == ["Rex."]


async def test_a_list_and_a_search_keep_to_what_is_asked_for(uow: UnitOfWorkFactory) -> None:
    await put(
        uow,
        a_fact("user tea", tags=("a",)),
        a_fact("support tea", scope=MemoryScope.AGENT, line=SUPPORT, tags=('a"b', "c")),
        a_fact("sales tea", scope=MemoryScope.AGENT, line=SALES),
        a_fact("shared tea", scope=MemoryScope.SHARED),
        a_fact("shared sales tea", scope=MemoryScope.SHARED, line=SALES),
        a_fact("deep tea", namespace="a.b"),
        a_fact("flat tea", namespace="ab"),
        a_fact("bob's shared tea", scope=MemoryScope.SHARED, line=SALES, owner=BOB),
        a_fact("bob's tea", owner=BOB),
    )
    asked = [
        (FactFilter(at=NOON, scope=MemoryScope.AGENT), {"support tea", "sales tea"}),
        (
            FactFilter(at=NOON, line_id=SUPPORT),
            {"user tea", "support tea", "shared tea", "deep tea", "flat tea"},
        ),
        (FactFilter(at=NOON, owner_id=BOB), {"bob's shared tea"}),
        (FactFilter(at=NOON, tag="a"), {"user tea"}),
        (FactFilter(at=NOON, tag='a"b'), {"support tea"}),
        (FactFilter(at=NOON, namespace="a"), {"deep tea"}),
        (FactFilter(at=NOON, namespace="a.b"), {"deep tea"}),
        (FactFilter(at=NOON, namespace="a.b.c"), set()),
    ]

    for where, expected in asked:
        assert {*await texts(uow, ANNS, where)} == expected, where
        assert {*await search(uow, "tea", ANNS, where)} == expected, where
    async with uow(ANNS) as work:
        assert await work.memories.namespaces(EVER, limit=10) == ["", "a.b", "ab"]
        assert await work.memories.namespaces(asked[5][0], limit=10) == ["a.b"]


async def test_a_list_is_paged_newest_first(uow: UnitOfWorkFactory) -> None:
    await put(uow, *(a_fact(f"Fact {n}", at=minutes_past_noon(n // 2)) for n in range(5)))

    after = None
    for expected in (["Fact 4", "Fact 3"], ["Fact 2", "Fact 1"], ["Fact 0"]):
        async with uow(ANNS) as work:
            page = await work.memories.page(EVER, limit=2, after=after)
        assert [fact.text for fact in page.items] == expected
        after = page.next_cursor
    assert after is None


async def test_what_has_expired_is_not_there_and_is_pruned(storage: Storage) -> None:
    uow = storage.uow
    brief, lasting = await put(
        uow, a_fact("Brief tea.", expires_at=minutes_past_noon(1)), a_fact("Lasting tea.")
    )
    later = FactFilter(at=minutes_past_noon(2))

    assert {*await texts(uow, ANNS)} == {"Brief tea.", "Lasting tea."}
    assert await texts(uow, ANNS, later) == ["Lasting tea."]
    assert await search(uow, "tea", ANNS, later) == ["Lasting tea."]
    async with uow(ANNS) as work:
        assert await work.memories.count(later.at) == 1
        with pytest.raises(MemoryNotFound):
            await work.memories.get(brief.id, later.at)
    assert await storage.fact_pruner.prune(later.at) == 1
    assert await storage.fact_pruner.prune(later.at) == 0
    assert await texts(uow, ANNS) == [lasting.text]


async def test_one_of_two_changes_of_one_state_wins(uow: UnitOfWorkFactory) -> None:
    [read] = await put(uow, a_fact())
    async with uow(ANNS) as work:
        saved = await work.memories.save(replace(read, text="Drinks coffee.", tags=("new",)))
        await work.commit()

    assert (saved.text, saved.revision) == ("Drinks coffee.", 2)
    assert await search(uow, "coffee") == ["Drinks coffee."]
    assert await search(uow, "tea") == []
    async with uow(ANNS) as work:
        with pytest.raises(ConcurrentChange):
            await work.memories.save(replace(read, text="Drinks water."))


async def test_a_change_does_not_make_a_second_of_the_same(uow: UnitOfWorkFactory) -> None:
    _, second = await put(uow, a_fact("One."), a_fact("Two."))

    async with uow(ANNS) as work:
        with pytest.raises(MemoryExists):
            await work.memories.save(replace(second, text="One."))


async def test_whoever_wants_to_be_forgotten_leaves_what_is_shared(uow: UnitOfWorkFactory) -> None:
    shared = a_fact("Shared.", scope=MemoryScope.SHARED)
    bobs = a_fact("Bob's.", owner=BOB)
    own = a_fact("Own.", scope=MemoryScope.AGENT, line=SUPPORT)
    await put(uow, a_fact("Mine."), own, shared, bobs)

    async with uow(all_of(PROJECT, ANN)) as work:
        assert await work.memories.clear() == 2
        await work.commit()
    assert await texts(uow, ANNS) == ["Shared."]
    assert {*await texts(uow, BOBS)} == {"Bob's.", "Shared."}
    assert await search(uow, "mine") == []


async def test_a_removed_fact_is_gone(uow: UnitOfWorkFactory) -> None:
    [fact] = await put(uow, a_fact())
    async with uow(ANNS) as work:
        await work.memories.remove(fact.id)
        await work.commit()

    assert await texts(uow, ANNS) == await search(uow, "tea") == []
    async with uow(ANNS) as work:
        for id in (fact.id, MemoryId("mem_0")):
            with pytest.raises(MemoryNotFound):
                await work.memories.remove(id)


async def test_what_no_database_takes_is_refused(uow: UnitOfWorkFactory) -> None:
    for fact in (a_fact("\x00a"), a_fact("\ud800a"), a_fact(key="a\x00")):
        async with uow(ANNS) as work:
            with pytest.raises(InvalidValue):
                await work.memories.put(fact)
