"""A graph that is cut off, on every store."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.errors import StateUnreadable
from runtime.domain.services.durability import AttemptLost
from runtime.infrastructure.repositories.checkpoint_rows import checkpoints
from runtime.infrastructure.repositories.checkpoints import SqlCheckpointStore
from runtime.templates.langgraph import LangGraphTemplate
from tests.contracts.conftest import Storage, goes_on_in_sql
from tests.durable import DurableTry, approve
from tests.fakes_models import ScriptedModels, says, steps_of, text_of

MUCH = "word " * 2_000
"""More than lies in the row of a state."""


class Report(LangGraphTemplate[BaseModel]):
    """Asks a model, and beside that a person; then says what came of it."""

    template_id = template_name = "report"

    def build_graph(self) -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(MessagesState)
        graph.add_node("write", self._write)
        graph.add_node("ask", self._ask)
        graph.add_node("close", self._close)
        graph.add_edge(START, "write")
        graph.add_edge(START, "ask")
        graph.add_edge(["write", "ask"], "close")
        return graph

    async def _write(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [await self.model.ainvoke(state["messages"])]}

    async def _ask(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": str(interrupt("?"))}]}

    async def _close(self, state: MessagesState) -> dict[str, Any]:
        said = [message.text for message in state["messages"]]
        return {"messages": [AIMessage(f" | {said[1]} of {len(said)}")]}


async def test_a_run_waits_and_goes_on(storage: Storage) -> None:
    run = DurableTry(
        Report, ScriptedModels(says(MUCH)), kept=storage.checkpoints, goes_on=storage.goes_on
    )
    pause = await run.suspended()
    assert steps_of(run.events) == ["+ask", "+write", "-write"]

    run.decisions[pause.requests[0].key] = approve("yes")
    events = await run.attempt()

    assert steps_of(events) == ["+ask", "-ask", "+close", "-close"]
    assert text_of(run.events) == f"{MUCH} | yes of 3"


async def test_a_run_that_was_cut_off_goes_on(storage: Storage) -> None:
    reached = asyncio.Event()
    models = ScriptedModels([*says(MUCH)[:1], asyncio.Event()], says(MUCH))

    class Slow(Report):
        async def _ask(self, state: MessagesState) -> dict[str, Any]:
            reached.set()
            return {"messages": [{"role": "user", "content": "nobody"}]}

    run = DurableTry(Slow, models, kept=storage.checkpoints, goes_on=storage.goes_on)
    await run.killed(reached)
    assert steps_of(run.events) == ["+ask", "+write", "-ask"]

    events = await run.attempt()

    assert steps_of(events) == ["+write", "-write", "+close", "-close"]
    history = await storage.checkpoints.history(run.input.run_id)
    assert [each.step for each in history] == [2, 1, 0, -1]


async def test_a_run_that_another_process_has_is_left_to_it(storage: Storage) -> None:
    class Taken(Report):
        async def _ask(self, state: MessagesState) -> dict[str, Any]:
            await run.take_away()
            return {"messages": []}

    run = DurableTry(
        Taken, ScriptedModels(says("Hi")), kept=storage.checkpoints, goes_on=storage.goes_on
    )
    with pytest.raises(AttemptLost):
        await run.attempt()

    history = await storage.checkpoints.history(run.input.run_id)
    assert [each.step for each in history] == [0, -1]


async def test_a_state_that_somebody_else_wrote_is_refused(engine: AsyncEngine) -> None:
    async def goes_on(run: Any) -> None:  # noqa: ANN401
        await goes_on_in_sql(engine, run)

    store = SqlCheckpointStore(engine)
    run = DurableTry(Report, ScriptedModels(says("Hi")), kept=store, goes_on=goes_on)
    await run.suspended()
    async with engine.begin() as connection:
        await connection.execute(update(checkpoints).values(state=b"\x80\x04N."))

    with pytest.raises(StateUnreadable):
        await run.attempt()
