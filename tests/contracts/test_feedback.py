from dataclasses import replace

import pytest

from runtime.domain.entities.feedback import Feedback, Rating
from runtime.domain.errors import InvalidValue
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import ProjectId, RunId, UserId
from tests.contracts.samples import (
    ANN,
    BOB,
    NOON,
    OTHER_PROJECT,
    PROJECT,
    all_of,
    minutes_past_noon,
)

RUN = RunId("run_1")


def an_opinion(user: UserId = ANN, *, project: ProjectId = PROJECT, run: RunId = RUN) -> Feedback:
    return Feedback(
        run_id=run,
        project_id=project,
        owner_id=user,
        rating=Rating.UP,
        comment="很好, thank you.",
        at=NOON,
    )


async def put(uow: UnitOfWorkFactory, *opinions: Feedback) -> None:
    for each in opinions:
        async with uow(Scope(each.project_id, each.owner_id)) as work:
            await work.feedback.put(each)
            await work.commit()


async def seen(uow: UnitOfWorkFactory, scope: Scope, run: RunId = RUN) -> list[Feedback]:
    async with uow(scope) as work:
        return list(await work.feedback.of_run(run))


async def test_an_opinion_comes_back_as_it_was_given(uow: UnitOfWorkFactory) -> None:
    given = an_opinion()
    await put(uow, given)

    assert await seen(uow, Scope(PROJECT, ANN)) == [given]
    assert await seen(uow, Scope(PROJECT, ANN), RunId("run_2")) == []


async def test_a_later_opinion_takes_the_place_of_the_earlier(uow: UnitOfWorkFactory) -> None:
    first = an_opinion()
    second = replace(first, rating=Rating.DOWN, comment=None, at=minutes_past_noon(1))
    await put(uow, first, second)

    assert await seen(uow, all_of(PROJECT)) == [second]


async def test_everybody_sees_their_own_and_an_admin_all(uow: UnitOfWorkFactory) -> None:
    anns, bobs = an_opinion(), replace(an_opinion(BOB), at=minutes_past_noon(1))
    await put(uow, bobs, anns, an_opinion(project=OTHER_PROJECT))

    assert await seen(uow, Scope(PROJECT, ANN)) == [anns]
    assert await seen(uow, Scope(PROJECT, BOB)) == [bobs]
    assert await seen(uow, all_of(PROJECT)) == [anns, bobs]
    assert await seen(uow, all_of(OTHER_PROJECT)) == [an_opinion(project=OTHER_PROJECT)]


async def test_nobody_speaks_for_somebody_else(uow: UnitOfWorkFactory) -> None:
    for foreign in (an_opinion(BOB), an_opinion(project=OTHER_PROJECT)):
        async with uow(all_of(PROJECT, ANN)) as work:
            with pytest.raises(ValueError, match="somebody else"):
                await work.feedback.put(foreign)


async def test_what_no_database_takes_is_refused(uow: UnitOfWorkFactory) -> None:
    for text in ("\x00", "\ud800"):
        async with uow(Scope(PROJECT, ANN)) as work:
            with pytest.raises(InvalidValue):
                await work.feedback.put(replace(an_opinion(), comment=text))


async def test_an_opinion_is_part_of_the_transaction(uow: UnitOfWorkFactory) -> None:
    async with uow(Scope(PROJECT, ANN)) as work:
        await work.feedback.put(an_opinion())

    assert await seen(uow, Scope(PROJECT, ANN)) == []
