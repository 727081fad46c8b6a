"""LangGraph's store in the nodes of a template's graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from runtime.application.services.memories import MemoryBook
from runtime.domain.errors import DomainError, Forbidden, InvalidValue
from runtime.domain.value_objects.ids import UserId
from runtime.templates.langgraph import LangGraphTemplate
from runtime.templates.langgraph.store import RunStore
from tests.fakes_models import (
    ScriptedModels,
    an_agent,
    asks,
    events_of,
    made,
    memory_book,
    text_of,
)

TEA = {"text": "Drinks green tea.", "cups": 3}


class Notes(LangGraphTemplate):
    """Keeps what it is told, and says what it knows."""

    template_id = "notes"
    template_name = "Notes"

    def build_graph(self) -> Any:  # noqa: ANN401 - any graph
        async def note(state: MessagesState, runtime: Runtime) -> dict[str, Any]:
            said = str(state["messages"][-1].text)
            store = runtime.store
            assert store is not None
            if said != "?":
                await store.aput(("notes",), said, {"text": said})
            known = await get_store().asearch(("notes",))
            return {"messages": [AIMessage(" ".join(sorted(item.key for item in known)))]}

        graph = StateGraph(MessagesState)
        graph.add_node("note", note)
        graph.add_edge(START, "note")
        return graph


class Compiled(Notes):
    def build_graph(self) -> Any:  # noqa: ANN401 - any graph
        return super().build_graph().compile()


class Threaded(LangGraphTemplate):
    template_id = "threaded"
    template_name = "Threaded"

    def build_graph(self) -> Any:  # noqa: ANN401 - any graph
        def note(state: MessagesState) -> dict[str, Any]:
            store = get_store()
            store.put(("notes",), "a", {"text": "A"})
            item = store.get(("notes",), "a")
            return {"messages": [AIMessage(item.value["text"] if item else "nothing")]}

        graph = StateGraph(MessagesState)
        graph.add_node("note", note)
        graph.add_edge(START, "note")
        return graph


async def told(instance: Any, text: str, user: str = "ann") -> str:  # noqa: ANN401 - any template
    input = replace(asks(text), user_id=UserId(user))
    return text_of(await events_of(instance, input))


@pytest.fixture
def book() -> MemoryBook:
    return memory_book()


@pytest.fixture
def store_of(book: MemoryBook) -> Callable[..., RunStore]:
    agent = an_agent(Notes)

    def store(user: str = "ann", *, shares: bool = False) -> RunStore:
        input = replace(asks("Hi"), user_id=UserId(user))
        return RunStore(lambda: book.of(input, agent, shares=shares))

    return store


@pytest.mark.parametrize("template", [Notes, Compiled])
async def test_a_node_knows_what_an_earlier_run_kept(template: Any) -> None:  # noqa: ANN401
    instance = made(template, ScriptedModels())

    assert await told(instance, "tea") == "tea"
    assert await told(instance, "?") == "tea"
    assert await told(instance, "coffee") == "coffee tea"
    assert await told(instance, "walks", "bob") == "walks"


async def test_a_graph_with_a_store_of_its_own_keeps_it() -> None:
    own = InMemoryStore()

    class Own(Notes):
        def build_graph(self) -> Any:  # noqa: ANN401 - any graph
            return super().build_graph().compile(store=own)

    await told(made(Own, ScriptedModels()), "tea")

    assert [item.key for item in own.search(("notes",))] == ["tea"]


async def test_a_node_that_is_a_plain_function_has_the_store_too() -> None:
    assert await told(made(Threaded, ScriptedModels()), "Hi") == "A"


async def test_the_blocking_methods_are_refused_where_they_would_wait_for_ever(
    store_of: Callable[..., RunStore],
) -> None:
    with pytest.raises(RuntimeError, match="aget"):
        store_of().get(("notes",), "a")


async def test_an_item_comes_back_until_it_is_deleted(store_of: Callable[..., RunStore]) -> None:
    store = store_of()
    await store.aput(("notes", "drinks"), "tea", TEA)

    item = await store.aget(("notes", "drinks"), "tea")
    assert item is not None
    assert (item.namespace, item.key, item.value) == (("notes", "drinks"), "tea", TEA)
    assert await store.aget(("notes",), "tea") is None
    await store.adelete(("notes", "drinks"), "tea")
    assert await store.aget(("notes", "drinks"), "tea") is None


async def test_a_search_goes_by_words_filter_and_place(store_of: Callable[..., RunStore]) -> None:
    store = store_of()
    await store.aput(("notes", "drinks"), "tea", TEA)
    await store.aput(("notes", "drinks"), "coffee", {"text": "Drinks coffee.", "cups": 1})
    await store.aput(("notes", "walks"), "sunday", {"text": "Walks on Sundays."})
    await store.aput(("other",), "tea", {"text": "Other tea."})

    async def keys(*place: str, **asked: Any) -> list[str]:  # noqa: ANN401 - as asearch
        return [item.key for item in await store.asearch(place, **asked)]

    assert await keys("notes", query="green tea") == ["tea"]
    assert await keys("notes", "drinks", filter={"cups": 1}) == ["coffee"]
    assert await keys("notes", filter={"cups": {"$gte": 2}}) == ["tea"]
    assert sorted(await keys("notes", filter={"cups": {"$ne": 3}})) == ["coffee", "sunday"]
    assert len(await keys("notes")) == 3
    assert len(await keys("notes", limit=1, offset=2)) == 1
    assert await keys("notes", limit=5, offset=3) == []
    assert len(await keys()) == 4
    with pytest.raises(InvalidValue):
        await keys("notes", filter={"cups": {"$like": 1}})


async def test_only_what_is_indexed_is_found_by_words(store_of: Callable[..., RunStore]) -> None:
    store = store_of()
    await store.aput(("notes",), "a", {"title": "tea", "body": "milk"}, index=["title"])
    await store.aput(("notes",), "b", {"title": "tea"}, index=False)

    assert [item.key for item in await store.asearch(("notes",), query="tea")] == ["a"]
    assert await store.asearch(("notes",), query="milk") == []
    assert len(await store.asearch(("notes",))) == 2


async def test_namespaces_are_listed(store_of: Callable[..., RunStore]) -> None:
    store = store_of()
    for place in (("a", "b", "c"), ("a", "d"), ("user", "e"), ("f",)):
        await store.aput(place, "k", {})

    assert await store.alist_namespaces() == [("a", "b", "c"), ("a", "d"), ("f",), ("user", "e")]
    assert await store.alist_namespaces(prefix=("a",)) == [("a", "b", "c"), ("a", "d")]
    assert await store.alist_namespaces(prefix=("a", "*", "c")) == [("a", "b", "c")]
    assert await store.alist_namespaces(suffix=("d",)) == [("a", "d")]
    assert await store.alist_namespaces(prefix=("user",)) == [("user", "e")]
    assert await store.alist_namespaces(max_depth=1) == [("a",), ("f",), ("user",)]
    assert await store.alist_namespaces(limit=1, offset=1) == [("a", "d")]


async def test_every_namespace_is_the_runs_users_but_for_what_is_shared(
    store_of: Callable[..., RunStore],
) -> None:
    anns, bobs = store_of(), store_of("bob", shares=True)
    await anns.aput(("bob", "notes"), "k", {"text": "Ann's"})
    await bobs.aput(("shared", "hours"), "k", {"text": "Open"})

    assert await bobs.asearch(("bob",)) == []
    assert await bobs.aget(("bob", "notes"), "k") is None
    open_hours = await anns.aget(("shared", "hours"), "k")
    assert open_hours is not None
    assert open_hours.value == {"text": "Open"}
    for refused in (
        anns.aput(("shared", "hours"), "k", {"text": "Closed"}),
        anns.adelete(("shared", "hours"), "k"),
    ):
        with pytest.raises(Forbidden):
            await refused


async def test_a_time_to_live_ends_an_item(book: MemoryBook) -> None:
    agent, input = an_agent(Notes), asks("Hi")
    await RunStore(lambda: book.of(input, agent)).aput(("notes",), "tea", TEA, ttl=1)

    [fact] = await book.of(input, agent).list()
    assert fact.expires_at is not None
    assert (fact.expires_at - fact.updated_at).total_seconds() == 60


async def test_what_can_not_be_kept_is_refused(store_of: Callable[..., RunStore]) -> None:
    store: BaseStore = store_of()
    for value in ({"at": object()}, {"n": float("nan")}, {"text": "x" * 40_000}):
        with pytest.raises(DomainError):
            await store.aput(("notes",), "k", value)
