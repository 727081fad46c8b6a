from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.errors import CompletionNotFound, InvalidValue
from runtime.domain.repositories.completions import CompletionFilter
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.answers import Answer
from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    Usage,
)
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import CompletionId, completion_id, new_run_id
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

ANNS = Scope(PROJECT, ANN)
BOBS = Scope(PROJECT, BOB)
ADMINS = Scope(PROJECT, BOB, sees_all=True, administers=True)
HELLO = [Message(ChatRole.USER, "Hello")]


def an_answer(**changes: Any) -> Answer:  # noqa: ANN401 - an answer's fields
    answer = Answer(
        text="It is sunny ☀.",
        reasoning="",
        refusal=None,
        tool_calls=[],
        logprobs=[],
        refusal_logprobs=[],
        annotations=[],
        finish_reason="stop",
        usage=Usage(9, 12, 4, 5),
    )
    return replace(answer, **changes)


def a_completion(**changes: Any) -> ChatCompletion:  # noqa: ANN401 - a completion's fields
    completion = ChatCompletion(
        id=completion_id(new_run_id()),
        project_id=PROJECT,
        owner_id=ANN,
        model="support@v7",
        fingerprint="1f2e3d4c5b",
        created_at=NOON,
        labels={},
        choices=[an_answer()],
    )
    return replace(completion, **changes)


async def keep(uow: UnitOfWorkFactory, *completions: ChatCompletion) -> list[CompletionId]:
    for completion in completions:
        async with uow(all_of(completion.project_id)) as work:
            await work.completions.add(completion, HELLO)
            await work.commit()
    return [completion.id for completion in completions]


async def listed(
    uow: UnitOfWorkFactory,
    scope: Scope,
    *,
    model: str | None = None,
    labels: Mapping[str, str] | None = None,
    limit: int = 10,
    newest_first: bool = False,
) -> list[str]:
    where = CompletionFilter(model, labels or {})
    found: list[str] = []
    after = None
    while True:
        async with uow(scope) as work:
            page = await work.completions.page(
                where, limit=limit, after=after, newest_first=newest_first
            )
        found += [each.id for each in page.items]
        if page.next_cursor is None:
            return found
        after = CompletionId(page.next_cursor)


async def test_a_completion_and_what_it_answers_read_back_the_same(uow: UnitOfWorkFactory) -> None:
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}')
    asked = [
        Message(ChatRole.DEVELOPER, "Be brief."),
        Message(
            ChatRole.USER,
            (
                TextPart("What is this?"),
                ImagePart("data:image/png;base64,AA==", "low"),
                AudioPart("AA==", "wav"),
                FilePart(filename="a.pdf", data="data:application/pdf;base64,AA=="),
            ),
            name="ada",
        ),
        Message(ChatRole.ASSISTANT, tool_calls=(call,)),
        Message(ChatRole.TOOL, "Sunny", tool_call_id="call_1"),
        Message(ChatRole.ASSISTANT, refusal="No."),
    ]
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.org"}}
    completion = a_completion(
        labels={"team": "blue", "ü": '"quoted"'},
        choices=[
            an_answer(reasoning="Hm.", logprobs=[token], annotations=[citation]),
            an_answer(text="", tool_calls=[call], finish_reason="tool_calls"),
            an_answer(text="", refusal="No.", refusal_logprobs=[token]),
        ],
    )
    async with uow(ANNS) as work:
        await work.completions.add(completion, asked)
        await work.commit()

    async with uow(ANNS) as work:
        assert await work.completions.get(completion.id) == completion
        assert await work.completions.asked(completion.id) == asked


async def test_what_is_not_committed_is_not_kept(uow: UnitOfWorkFactory) -> None:
    completion = a_completion()
    async with uow(ANNS) as work:
        await work.completions.add(completion, HELLO)
    assert await listed(uow, ALL) == []


async def test_lists_go_either_way_page_by_page(uow: UnitOfWorkFactory) -> None:
    times = [minutes_past_noon(minute) for minute in (0, 1, 1, 2, 3)]
    ids = await keep(uow, *(a_completion(created_at=time) for time in times))

    assert await listed(uow, ANNS, limit=2) == ids
    assert await listed(uow, ANNS, limit=2, newest_first=True) == ids[::-1]


async def test_lists_are_narrowed_by_model_and_labels(uow: UnitOfWorkFactory) -> None:
    blue, red, bare = await keep(
        uow,
        a_completion(labels={"team": "blue", "stage": "test"}),
        a_completion(labels={"team": "red", 'a"b': "x'y"}, model="sales"),
        a_completion(),
    )

    assert await listed(uow, ANNS, model="support@v7") == [blue, bare]
    assert await listed(uow, ANNS, labels={"team": "blue"}) == [blue]
    assert await listed(uow, ANNS, labels={"team": "blue", "stage": "prod"}) == []
    assert await listed(uow, ANNS, labels={'a"b': "x'y"}) == [red]
    assert await listed(uow, ANNS, labels={"$.team": "red"}) == []


async def test_others_neither_see_nor_change_it(uow: UnitOfWorkFactory) -> None:
    (id,) = await keep(uow, a_completion())

    for scope in (BOBS, all_of(OTHER_PROJECT)):
        assert await listed(uow, scope) == []
        async with uow(scope) as work:
            for call in (
                work.completions.get(id),
                work.completions.asked(id),
                work.completions.relabel(id, {"team": "red"}),
                work.completions.remove(id),
            ):
                with pytest.raises(CompletionNotFound):
                    await call
            with pytest.raises(InvalidValue):
                await work.completions.page(
                    CompletionFilter(), limit=1, after=id, newest_first=False
                )
    assert await listed(uow, ADMINS) == [id]


async def test_labels_are_replaced_as_a_whole(uow: UnitOfWorkFactory) -> None:
    first, second = await keep(uow, *(a_completion(labels={"team": "blue"}) for _ in range(2)))
    async with uow(ANNS) as work:
        await work.completions.relabel(first, {"stage": "test"})
        await work.commit()

    async with uow(ANNS) as work:
        assert (await work.completions.get(first)).labels == {"stage": "test"}
        assert (await work.completions.get(second)).labels == {"team": "blue"}


async def test_what_is_removed_is_gone(uow: UnitOfWorkFactory) -> None:
    first, second = await keep(uow, a_completion(), a_completion())
    async with uow(ANNS) as work:
        await work.completions.remove(first)
        await work.commit()

    assert await listed(uow, ANNS) == [second]
    async with uow(ANNS) as work:
        with pytest.raises(CompletionNotFound):
            await work.completions.remove(first)


async def test_old_ones_of_every_project_are_pruned(storage: Storage) -> None:
    foreign = {"project_id": OTHER_PROJECT, "owner_id": BOB}
    old = [a_completion(), a_completion(**foreign)]
    await keep(storage.uow, *old, a_completion(created_at=minutes_past_noon(1)))
    left = await keep(storage.uow, a_completion(created_at=minutes_past_noon(2)))

    assert await storage.completion_pruner.prune(minutes_past_noon(2)) == 3
    assert await listed(storage.uow, ALL) == left
    assert await storage.completion_pruner.prune(minutes_past_noon(2)) == 0
