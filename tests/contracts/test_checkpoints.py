from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from runtime.domain.entities.durable import DurableRun
from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import CheckpointNotFound
from runtime.domain.repositories.checkpoints import (
    ChannelValue,
    Checkpoint,
    Fork,
    Progress,
    TaskWrite,
    Version,
)
from runtime.domain.services.durability import AttemptLost
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from tests.contracts.conftest import Storage
from tests.contracts.samples import ANN, BOB, NOON, PROJECT
from tests.durable import a_durable_run

RUN, OTHER = RunId("run_1"), RunId("run_2")
ANNS = Scope(PROJECT, ANN)
DEEP = "|".join(f"node:{number:036}" for number in range(20))
"""A graph in a graph in a graph…, and so a name that is too long for an index."""


BOTH = [("messages", "1"), ("messages", "2")]


def a_fork(id: str, *versions: Version) -> Fork:
    return Fork(
        source=RUN, checkpoint_id=id, target=OTHER, scope=ANNS, begins="turn", versions=versions
    )


def a_checkpoint(step: int = 0, *, id: str = "", namespace: str = "") -> Checkpoint:
    return Checkpoint(
        namespace=namespace,
        id=id or f"id-{step}",
        parent_id=f"id-{step - 1}" if step else None,
        step=step,
        source="loop",
        created_at=NOON,
        state=b"\x01state\x00" + bytes([step]),
    )


def a_value(version: str, data: bytes = b"\x00", *, channel: str = "messages") -> ChannelValue:
    return ChannelValue("", channel, version, data)


def a_write(position: int, *, step: int = 0, task: str = "t", path: str = "") -> TaskWrite:
    return TaskWrite(
        namespace="",
        checkpoint_id=f"id-{step}",
        task_id=task,
        task_path=path,
        position=position,
        channel=f"channel {position}",
        data=b"\xff",
    )


def ended(run: RunId, at: datetime) -> DurableRun:
    return a_durable_run(run).ended(RunStatus.COMPLETED, at, None)


async def saved(storage: Storage, *checkpoints: Checkpoint, run: RunId = RUN) -> None:
    await storage.goes_on(a_durable_run(run, attempt=1))
    await storage.checkpoints.save(run, 1, Progress(list(checkpoints)))


async def steps(storage: Storage, run: RunId = RUN, before: str | None = None) -> Sequence[int]:
    return [each.step for each in await storage.checkpoints.history(run, before=before)]


async def test_the_newest_checkpoint_is_the_one_of_the_last_step(storage: Storage) -> None:
    # Ids are times, and clocks of processes differ.
    await saved(storage, a_checkpoint(1, id="b"), a_checkpoint(2, id="a"))

    assert await storage.checkpoints.find(RUN) == a_checkpoint(2, id="a")
    assert await storage.checkpoints.find(RUN, "", "b") == a_checkpoint(1, id="b")
    assert await storage.checkpoints.find(RUN, "inner") is None
    assert await storage.checkpoints.find(OTHER) is None


async def test_what_is_saved_twice_is_there_once(storage: Storage) -> None:
    progress = Progress(
        [a_checkpoint()], [a_value("1"), a_value("2")], [a_write(0), a_write(1), a_write(-1)]
    )
    await storage.goes_on(a_durable_run(RUN, attempt=1))
    await storage.checkpoints.save(RUN, 1, progress)
    await storage.checkpoints.save(RUN, 1, progress)

    assert await storage.checkpoints.history(RUN) == [a_checkpoint()]
    assert await storage.checkpoints.writes(RUN, "", ["id-0"]) == [
        a_write(-1),
        a_write(0),
        a_write(1),
    ]


@pytest.mark.parametrize("writes", [[a_write(0)], [a_write(0), a_write(1)]])
async def test_an_attempt_that_lost_the_run_saves_nothing(
    storage: Storage, writes: list[TaskWrite]
) -> None:
    await saved(storage, a_checkpoint(0))
    await storage.goes_on(a_durable_run(RUN, attempt=2))

    with pytest.raises(AttemptLost):
        await storage.checkpoints.save(RUN, 1, Progress(writes=writes))
    with pytest.raises(AttemptLost):
        await storage.checkpoints.save(RUN, 1, Progress([a_checkpoint(1)], [a_value("1")]))
    with pytest.raises(AttemptLost):
        await storage.checkpoints.save(OTHER, 1, Progress([a_checkpoint(1)]))

    assert await steps(storage) == [0]
    assert await storage.checkpoints.writes(RUN, "", ["id-0"]) == []
    assert await storage.checkpoints.values(RUN, "", [("messages", "1")]) == {}


async def test_a_run_that_ended_takes_no_more_checkpoints(storage: Storage) -> None:
    await saved(storage, a_checkpoint(0))
    await storage.goes_on(ended(RUN, NOON))

    with pytest.raises(AttemptLost):
        await storage.checkpoints.save(RUN, 1, Progress([a_checkpoint(1)]))


async def test_values_are_found_by_channel_and_version(storage: Storage) -> None:
    long = "channel " * 100
    values = [a_value("1", b"one"), a_value("2", b"two"), a_value("1", b"long", channel=long)]
    await storage.goes_on(a_durable_run(RUN, attempt=1))
    await storage.checkpoints.save(RUN, 1, Progress(values=values))

    asked = [("messages", "2"), (long, "1"), ("messages", "3")]
    assert await storage.checkpoints.values(RUN, "", asked) == {
        ("messages", "2"): b"two",
        (long, "1"): b"long",
    }
    assert await storage.checkpoints.values(RUN, "", []) == {}


async def test_writes_come_in_the_order_of_their_tasks(storage: Storage) -> None:
    writes = [
        a_write(1, task="a", path="2"),
        a_write(0, task="b", path="1"),
        a_write(0, task="a", path="2"),
        a_write(0, step=1),
    ]
    await storage.goes_on(a_durable_run(RUN, attempt=1))
    await storage.checkpoints.save(RUN, 1, Progress(writes=writes))

    found = await storage.checkpoints.writes(RUN, "", ["id-0"])
    assert found == [writes[1], writes[2], writes[0]]


async def test_graphs_deep_inside_of_others_have_checkpoints_of_their_own(
    storage: Storage,
) -> None:
    await saved(storage, a_checkpoint(1), a_checkpoint(3, namespace=DEEP))

    assert await storage.checkpoints.find(RUN, DEEP) == a_checkpoint(3, namespace=DEEP)
    assert await steps(storage) == [1]


async def test_a_history_is_read_in_parts(storage: Storage) -> None:
    await saved(storage, *(a_checkpoint(step) for step in range(5)))

    assert await steps(storage) == [4, 3, 2, 1, 0]
    first = await storage.checkpoints.history(RUN, limit=2)
    assert [each.step for each in first] == [4, 3]
    assert await steps(storage, before=first[-1].id) == [2, 1, 0]
    assert await steps(storage, before="unknown") == []


async def test_a_copy_goes_on_from_the_newest_state(storage: Storage) -> None:
    progress = Progress(
        [a_checkpoint(0), a_checkpoint(1), a_checkpoint(0, namespace=DEEP)],
        [a_value("1", b"one"), a_value("2", b"two")],
        [a_write(0), a_write(0, step=1)],
    )
    await storage.goes_on(a_durable_run(RUN, attempt=1))
    await storage.checkpoints.save(RUN, 1, progress)

    await storage.checkpoints.copy(RUN, OTHER, ANNS)

    assert await steps(storage, OTHER) == [1]
    copied = await storage.checkpoints.find(OTHER)
    assert copied is not None
    assert copied.source == "copy"
    assert await storage.checkpoints.find(OTHER, DEEP) is not None
    assert await storage.checkpoints.values(OTHER, "", BOTH) == {("messages", "2"): b"two"}
    assert await storage.checkpoints.writes(OTHER, "", ["id-0", "id-1"]) == [a_write(0, step=1)]


async def test_a_copy_of_nothing_is_nothing(storage: Storage) -> None:
    await storage.checkpoints.copy(RUN, OTHER, ANNS)

    assert await steps(storage, OTHER) == []


async def test_a_fork_begins_at_its_checkpoint(storage: Storage) -> None:
    values = [a_value("1"), a_value("2")]
    progress = Progress([a_checkpoint(step) for step in range(3)], values, [a_write(0)])
    await storage.goes_on(a_durable_run(RUN, attempt=1))
    await storage.checkpoints.save(RUN, 1, progress)

    update = a_write(0, step=1, task="update")
    await storage.checkpoints.fork(a_fork("id-1", ("messages", "1")), [update])

    found = await storage.checkpoints.history(OTHER)
    assert [(each.step, each.source) for each in found] == [(1, "turn")]
    assert await storage.checkpoints.writes(OTHER, "", ["id-0", "id-1"]) == [update]
    assert await storage.checkpoints.values(OTHER, "", BOTH) == {("messages", "1"): b"\x00"}


async def test_there_is_no_fork_from_where_nothing_is(storage: Storage) -> None:
    await saved(storage, a_checkpoint(0), a_checkpoint(1, id="inner", namespace="node:1"))

    for id in ("id-7", "inner"):
        with pytest.raises(CheckpointNotFound, match=id):
            await storage.checkpoints.fork(a_fork(id))
    assert await steps(storage, OTHER) == []


async def test_a_scope_shows_its_own(storage: Storage) -> None:
    await saved(storage, a_checkpoint(0))
    await storage.checkpoints.copy(RUN, OTHER, ANNS)

    for scope, seen in (
        (ANNS, 1),
        (Scope(PROJECT, BOB), 0),
        (Scope(PROJECT, BOB, administers=True), 1),
        (Scope(type(PROJECT)("elsewhere"), ANN, administers=True), 0),
    ):
        assert len(await storage.checkpoints.history(OTHER, scope=scope)) == seen


async def test_checkpoints_go_some_time_after_their_run(storage: Storage) -> None:
    for run in (RUN, OTHER):
        await saved(storage, a_checkpoint(0), run=run)
    await storage.goes_on(ended(RUN, NOON + timedelta(hours=1)))

    assert await storage.checkpoint_pruner.prune(NOON + timedelta(minutes=30)) == 0
    assert await storage.checkpoint_pruner.prune(NOON + timedelta(hours=2)) == 1
    assert await steps(storage) == []
    assert await steps(storage, OTHER) == [0]


async def test_checkpoints_of_a_run_that_is_not_there_go_too(storage: Storage) -> None:
    await saved(storage, a_checkpoint(0))
    await storage.goes_on(ended(RUN, NOON))
    await storage.checkpoints.copy(RUN, OTHER, ANNS)

    await storage.checkpoint_pruner.prune(NOON + timedelta(hours=1))

    assert await steps(storage, OTHER) == []


async def test_all_of_a_run_can_be_deleted(storage: Storage) -> None:
    await saved(storage, a_checkpoint(0), a_checkpoint(0, namespace=DEEP))

    await storage.checkpoints.delete(RUN)

    assert await storage.checkpoints.find(RUN) is None
    assert await storage.checkpoints.find(RUN, DEEP) is None
