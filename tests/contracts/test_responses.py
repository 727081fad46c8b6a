from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.domain.entities.responses import Response, ResponseFailure, ResponseStatus
from runtime.domain.errors import PreviousResponseNotFound, ResponseNotFound
from runtime.domain.events.runs import RunCancelled
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import (
    ChatRole,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    Usage,
)
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ItemId, ResponseId, new_run_id
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    MessageItem,
    ReasoningItem,
)
from runtime.infrastructure.repositories.responses import SqlLapsedResponses, responses
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.conftest import Storage
from tests.contracts.samples import (
    ALL,
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    all_of,
    minutes_past_noon,
)
from tests.fakes import Published

MINE = Scope(PROJECT, ANN)
INPUT = (
    MessageItem(ItemId("msg_1"), Message(ChatRole.USER, (TextPart("ü"), ImagePart("https://x/y")))),
    FunctionOutputItem(ItemId("fco_1"), "call_1", "done"),
)
OUTPUT = (
    ReasoningItem(ItemId("rs_1"), "Hm."),
    AgentToolItem(ItemId("mcp_1"), "c1", "search", "{}", error="broken"),
    MessageItem(
        ItemId("msg_2"),
        Message(ChatRole.ASSISTANT, "Yes", refusal="No"),
        "incomplete",
        ({"token": "Yes", "logprob": -0.5, "bytes": [89], "top_logprobs": []},),
    ),
    FunctionCallItem(ItemId("fc_1"), ToolCall("x1", "pay", '{"a": 1}')),
)


def a_response(**changes: object) -> Response:
    response = Response(
        id=ResponseId(f"resp_{new_run_id().removeprefix('run_')}"),
        project_id=PROJECT,
        owner_id=ANN,
        model="support@v7",
        status=ResponseStatus.COMPLETED,
        background=False,
        previous_id=None,
        conversation="conv_1",
        created_at=NOON,
        completed_at=minutes_past_noon(1),
        settings={"temperature": 1.0, "tools": [{"name": "ü"}]},
        input=INPUT,
        output=OUTPUT,
        usage=Usage(2**40, 2, 3, 4),
        failure=None,
        incomplete_reason=None,
    )
    return replace(response, **changes)  # type: ignore[arg-type]


def going_on(**changes: object) -> Response:
    return a_response(
        status=ResponseStatus.IN_PROGRESS,
        background=True,
        completed_at=None,
        output=(),
        usage=None,
        **changes,
    )


async def add(uow: UnitOfWorkFactory, *responses: Response) -> None:
    for response in responses:
        async with uow(response.scope) as work:
            await work.responses.add(response)
            await work.commit()


def plain(response: Response) -> Response:
    """With its items in tuples, whatever they were read into."""
    return replace(response, input=tuple(response.input), output=tuple(response.output))


async def test_a_response_reads_back_the_same(uow: UnitOfWorkFactory) -> None:
    full = a_response()
    bare = a_response(
        status=ResponseStatus.FAILED,
        background=True,
        previous_id=full.id,
        conversation=None,
        completed_at=None,
        settings={},
        input=(),
        output=(),
        usage=None,
        failure=ResponseFailure("server_error", "It broke."),
        incomplete_reason="max_output_tokens",
    )
    await add(uow, full, bare)

    async with uow(MINE) as work:
        assert plain(await work.responses.get(full.id)) == full
        assert plain(await work.responses.get(bare.id)) == bare


async def test_somebody_else_s_response_is_as_unknown_as_one_that_is_not_there(
    uow: UnitOfWorkFactory,
) -> None:
    response = a_response()
    await add(uow, response)

    for scope in (Scope(PROJECT, BOB), all_of(OTHER_PROJECT)):
        async with uow(scope) as work:
            for lookup in (work.responses.get, work.responses.remove):
                with pytest.raises(ResponseNotFound, match=response.id):
                    await lookup(response.id)
            with pytest.raises(PreviousResponseNotFound, match=response.id):
                await work.responses.chain(response.id)
            assert not await work.responses.finish(a_response(id=response.id))
    async with uow(Scope(PROJECT, BOB, administers=True)) as work:
        assert (await work.responses.get(response.id)).owner_id == ANN


async def test_a_chain_is_read_from_its_beginning(uow: UnitOfWorkFactory) -> None:
    first = a_response()
    second = a_response(previous_id=first.id)
    third = a_response(previous_id=second.id)
    beside = a_response(previous_id=first.id)
    await add(uow, first, second, third, beside)

    async with uow(MINE) as work:
        chain = await work.responses.chain(third.id)
    assert [each.id for each in chain] == [first.id, second.id, third.id]
    assert plain(chain[0]) == first


async def test_a_chain_with_a_gap_names_what_is_missing(uow: UnitOfWorkFactory) -> None:
    first = a_response()
    second = a_response(previous_id=first.id)
    third = a_response(previous_id=second.id)
    await add(uow, first, second, third)
    async with uow(MINE) as work:
        await work.responses.remove(first.id)
        await work.commit()

    async with uow(MINE) as work:
        with pytest.raises(PreviousResponseNotFound, match=first.id):
            await work.responses.chain(third.id)


async def test_a_chain_does_not_lead_to_somebody_else(uow: UnitOfWorkFactory) -> None:
    foreign = a_response(owner_id=BOB)
    mine = a_response(previous_id=foreign.id)
    await add(uow, foreign, mine)

    async with uow(MINE) as work:
        with pytest.raises(PreviousResponseNotFound, match=foreign.id):
            await work.responses.chain(mine.id)


async def test_how_a_response_ends_is_decided_once(uow: UnitOfWorkFactory) -> None:
    begun = going_on()
    await add(uow, begun)
    completed = replace(begun, status=ResponseStatus.COMPLETED, output=OUTPUT)
    cancelled = replace(begun, status=ResponseStatus.CANCELLED)

    async with uow(MINE) as work:
        assert await work.responses.finish(completed)
        await work.commit()
    async with uow(MINE) as work:
        assert not await work.responses.finish(cancelled)
        assert plain(await work.responses.get(begun.id)) == completed


async def test_a_response_is_written_once(uow: UnitOfWorkFactory) -> None:
    response = a_response()
    await add(uow, response)

    async with uow(MINE) as work:
        with pytest.raises(ValueError, match=response.id):
            await work.responses.add(response)


async def test_a_removed_response_is_gone(uow: UnitOfWorkFactory) -> None:
    response = a_response()
    await add(uow, response)
    async with uow(ALL) as work:
        await work.responses.remove(response.id)
        await work.commit()

    async with uow(ALL) as work:
        with pytest.raises(ResponseNotFound):
            await work.responses.get(response.id)


async def test_what_is_old_is_pruned_with_its_events_unless_it_goes_on(storage: Storage) -> None:
    old, running, young = a_response(), going_on(), a_response(created_at=minutes_past_noon(9))
    await add(storage.uow, old, running, young)
    async with storage.uow(MINE) as work:
        for each in (old, running, young):
            await work.run_events.append(each.run_id, 0, [RunCancelled()])
        await work.commit()

    before = NOON + timedelta(minutes=5)
    assert await storage.response_pruner.prune(before) == 1
    assert await storage.response_pruner.prune(before) == 0
    async with storage.uow(MINE) as work:
        with pytest.raises(ResponseNotFound):
            await work.responses.get(old.id)
        assert [await work.run_events.last(e.run_id) for e in (old, running, young)] == [0, 1, 1]


async def test_what_the_release_before_left_in_the_background_has_failed(
    engine: AsyncEngine,
) -> None:
    uow = partial(sql_unit_of_work, engine, Published())
    left, held, durable = [
        a_response(status=ResponseStatus.IN_PROGRESS, background=True) for _ in range(3)
    ]
    async with uow(MINE) as work:
        for each in (left, held, durable):
            await work.responses.add(each)
        await work.commit()
    async with engine.begin() as connection:
        for each, minute in ((left, 1), (held, 3)):
            lease = update(responses).where(responses.c.id == each.id)
            await connection.execute(lease.values(lease_until=minutes_past_noon(minute)))

    assert await SqlLapsedResponses(engine).prune(minutes_past_noon(2)) == 1
    async with uow(MINE) as work:
        failed = await work.responses.get(left.id)
        assert failed.status is ResponseStatus.FAILED
        assert failed.failure is not None
        assert failed.failure.code == "server_error"
        for each in (held, durable):
            assert (await work.responses.get(each.id)).status is ResponseStatus.IN_PROGRESS
