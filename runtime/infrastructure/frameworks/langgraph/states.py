"""LangGraph's states for people. What reads them is imported when somebody looks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.domain.errors import InvalidValue
from runtime.domain.repositories.checkpoints import Checkpoint, TaskWrite, Version
from runtime.domain.services.states import (
    GraphStates,
    SeenCheckpoint,
    SeenInterrupt,
    SeenTask,
)

MOST_TEXT = 2_000
MOST_ITEMS = 50
MOST_DEPTH = 8
"""Of a value that is shown."""
_NO_TASK = "00000000-0000-0000-0000-000000000000"
"""LangGraph applies what this task wrote to the state before it goes on."""
_NOT_RESULTS = ("__error__", "__error_source_node__", "__interrupt__", "__resume__")


class LangGraphStates(GraphStates):
    def stands_alone(self, checkpoint: Checkpoint) -> bool:
        return "counters_since_delta_snapshot" not in _plain(checkpoint.state)["metadata"]

    def versions(self, checkpoint: Checkpoint) -> Sequence[Version]:
        state = _plain(checkpoint.state)
        versions = state["channel_versions"].items()
        return [(name, version) for name, version in versions if name not in state["inline"]]

    def seen(
        self, checkpoint: Checkpoint, values: Mapping[Version, bytes], writes: Sequence[TaskWrite]
    ) -> SeenCheckpoint:
        from runtime.templates.langgraph.durable import nodes_after

        state = _plain(checkpoint.state)
        whole = {name: _plain(data) for name, data in state["inline"].items()}
        for name, version in self.versions(checkpoint):
            if (name, version) in values:
                whole[name] = _plain(values[name, version])
        return SeenCheckpoint(
            id=checkpoint.id,
            parent_id=checkpoint.parent_id,
            step=checkpoint.step,
            source=checkpoint.source,
            created_at=checkpoint.created_at,
            next=["__start__"] if "__start__" in whole else nodes_after(whole),
            tasks=list(_tasks(writes)),
            values={name: shown(value) for name, value in whole.items() if _is_key(name)},
        )

    def update(self, checkpoint: Checkpoint, values: Mapping[str, Any]) -> Sequence[TaskWrite]:
        from runtime.templates.langgraph.state import StateCodec

        keys = sorted(filter(_is_key, _plain(checkpoint.state)["channel_versions"]))
        codec = StateCodec()
        for name in values:
            if name not in keys:
                raise InvalidValue(
                    f"The state has no key '{name[:100]}'; it has {', '.join(keys) or 'none'}.",
                    param="values",
                )
        return [
            TaskWrite(
                namespace="",
                checkpoint_id=checkpoint.id,
                task_id=_NO_TASK,
                task_path="",
                position=position,
                channel=name,
                data=codec.encode(value),
            )
            for position, (name, value) in enumerate(values.items())
        ]


def shown(value: object, depth: int = MOST_DEPTH) -> Any:  # noqa: ANN401
    """As JSON of a bearable length."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}…"
        case bytes():
            return f"{len(value)} bytes"
        case _ if not depth:
            return "…"
        case Mapping():
            some = list(value.items())[:MOST_ITEMS]
            return {str(key)[:MOST_TEXT]: shown(each, depth - 1) for key, each in some}
        case Sequence():
            cut = ["…"] if len(value) > MOST_ITEMS else []
            return cut + [shown(each, depth - 1) for each in value[-MOST_ITEMS:]]
    return str(value)


def _tasks(writes: Sequence[TaskWrite]) -> Iterator[SeenTask]:
    by_task: dict[str, list[TaskWrite]] = {}
    for write in writes:
        if write.task_id != _NO_TASK:
            by_task.setdefault(write.task_id, []).append(write)
    for id, own in by_task.items():
        finished = any(write.channel not in _NOT_RESULTS for write in own)
        asked = [write for write in own if write.channel == "__interrupt__" and not finished]
        interrupts = [each for write in asked for each in _plain(write.data)]
        yield SeenTask(
            id=id,
            name=_name(own[0].task_path),
            finished=finished,
            interrupts=[SeenInterrupt(str(id), shown(value)) for value, id, *_ in interrupts],
        )


def _name(path: str) -> str:
    """Of the node, in what LangGraph calls a task's path: `~__pregel_pull, name`."""
    kind, _, name = path.lstrip("~").partition(", ")
    return name if kind == "__pregel_pull" else ""


def _is_key(channel: str) -> bool:
    """Of the state, not of what LangGraph keeps beside it."""
    return not channel.startswith(("__", "branch:", "join:"))


def _plain(data: bytes) -> Any:  # noqa: ANN401
    from runtime.templates.langgraph.state import plain

    return plain(data)
