"""LangGraph's checkpoints in the runtime's database, for one attempt of a run."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
)
from langgraph.checkpoint.base import Checkpoint as GraphCheckpoint
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from langgraph.types import Interrupt

from runtime.domain.errors import DatabaseUnavailable, ExecutionFailed
from runtime.domain.repositories.checkpoints import (
    ChannelValue,
    Checkpoint,
    CheckpointStore,
    Progress,
    TaskWrite,
)
from runtime.domain.value_objects.ids import RunId
from runtime.templates.langgraph.state import StateCodec

PATIENCE_S = 20.0
"""How long a checkpoint waits for a database that is away."""
MOMENT = 5
"""Turns of the event loop."""
_SMALL = 4_096
"""Bytes of a value that costs less with each state than in a row of its own."""
_START = ", __start__"
"""Ends the path of the task that gives the input to the first nodes."""
_NO_RESULT = frozenset((ERROR, "__error_source_node__", INTERRUPT, RESUME))
"""What LangGraph notes of a task beside its result."""
T = TypeVar("T")
Write = tuple[str, Any]


class Witness(Protocol):
    """Of an attempt: says what a task has done before it counts as done."""

    async def done(self, task_id: str, writes: Sequence[Write]) -> None:
        """A task of the outermost graph."""

    async def flush(self, progress: Callable[[], Progress]) -> None:
        """Until all that was said is on record, with what is to be kept by then."""


@dataclass(slots=True)
class _Batch:
    """What is written with one commit. Whoever comes while one goes on waits for the next."""

    progress: Progress = field(default_factory=Progress)
    deltas: set[tuple[str, str | None]] = field(default_factory=set)
    """Namespaces and checkpoints whose writes are part of later states."""
    done: bool = False
    error: BaseException | None = None


class AttemptSaver(BaseCheckpointSaver[str]):
    """Every write is fenced by the attempt, and follows what the attempt has said so far.

    Raises AttemptLost, StateNotStorable, StateUnreadable; DatabaseUnavailable after PATIENCE_S.
    """

    def __init__(
        self, store: CheckpointStore, codec: StateCodec, run: RunId, witness: Witness
    ) -> None:
        super().__init__()
        self._store = store
        self._codec = codec
        self._run = run
        self._witness = witness
        self._loop = asyncio.get_running_loop()
        self._writing = asyncio.Lock()
        self._batch = _Batch()
        self._opened = False
        self._ahead: CheckpointTuple | None = None
        self._small: dict[tuple[str, str, str], bytes] = {}
        """Values that are kept with the state, by namespace, channel and version."""
        self.hands_on = False
        """The outermost graph's first task does nothing but hand the input to its nodes."""
        self.interrupts: dict[str, Interrupt] = {}
        """Raised in this attempt, by id."""
        self.source = ""
        """Of the checkpoint that it was opened with."""
        self.newest_id = ""
        """Of the outermost graph."""

    async def open(self) -> CheckpointTuple | None:
        """The newest of the outermost graph, which LangGraph then need not read again."""
        found = await self._store.find(self._run)
        if found is not None:
            self.source, self.newest_id = found.source, found.id
            self._ahead = await self._whole(found)
        self._opened = True
        return self._ahead

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        namespace = _namespace(config)
        id = get_checkpoint_id(config)
        if self._opened and not namespace and not id:
            self._opened = False
            ahead, self._ahead = self._ahead, None
            return ahead
        return await self._tuple(namespace, id)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        namespace = _namespace(config) if config else ""
        earlier = get_checkpoint_id(before) if before else None
        found = await self._store.history(self._run, namespace, before=earlier)
        asked = get_checkpoint_id(config) if config else None
        for each in found:
            if limit is not None and limit <= 0:
                return
            if asked and each.id != asked:
                continue
            whole = await self._whole(each)
            if filter and any(whole.metadata.get(key) != filter[key] for key in filter):
                continue
            yield whole
            limit = None if limit is None else limit - 1

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: GraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        namespace = _namespace(config)
        state: dict[str, Any] = {**checkpoint, "metadata": metadata}
        values = state.pop("channel_values")
        large: list[ChannelValue] = []
        inline: dict[str, bytes] = {}
        for name, value in values.items():
            version = str(checkpoint["channel_versions"][name])
            data = self._small.get((namespace, name, version))
            if data is None and name in new_versions:
                data = self._codec.encode(value)
                if len(data) > _SMALL:
                    large.append(ChannelValue(namespace, name, version, data))
                    continue
                self._small[namespace, name, version] = data
            if data is not None:
                inline[name] = data
        state["inline"] = inline
        row = Checkpoint(
            namespace=namespace,
            id=checkpoint["id"],
            parent_id=get_checkpoint_id(config),
            step=metadata["step"],
            source=metadata["source"],
            created_at=datetime.fromisoformat(checkpoint["ts"]),
            state=self._codec.encode(state),
        )
        if "counters_since_delta_snapshot" in metadata:
            self._batch.deltas.add((namespace, row.parent_id))
        progress = Progress([row], large)
        if row.source == "input" and (self.hands_on or namespace):
            # It goes with the next one, which is on record before any node begins: the steps have
            # the same ids in every attempt, and the ledger knows their calls by them.
            self._take(progress)
        else:
            await self._write(progress)
        if not namespace:
            self.newest_id = row.id
        return self._config(namespace, row.id)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[Write],
        task_id: str,
        task_path: str = "",
    ) -> None:
        namespace = _namespace(config)
        begins = task_path.endswith(_START)
        if not namespace:
            for channel, value in writes:
                if channel == INTERRUPT:
                    self.interrupts.update({each.id: each for each in value})
            await self._witness.done(task_id, writes)
        rows = [
            TaskWrite(
                namespace=namespace,
                checkpoint_id=config["configurable"]["checkpoint_id"],
                task_id=task_id,
                task_path=task_path,
                position=WRITES_IDX_MAP.get(channel, position),
                channel=channel,
                data=self._codec.encode(value),
            )
            for position, (channel, value) in enumerate(writes)
        ]
        if begins:
            self._take(Progress(writes=rows))
        else:
            await self._write(Progress(writes=rows))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._store.delete(RunId(thread_id))

    # A node that is no coroutine runs in a thread, and so may a graph that it calls.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._from_thread(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def listed() -> Sequence[CheckpointTuple]:
            found = self.alist(config, filter=filter, before=before, limit=limit)
            return [each async for each in found]

        yield from self._from_thread(listed())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: GraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._from_thread(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[Write],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._from_thread(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        self._from_thread(self.adelete_thread(thread_id))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Of the same number there may be several, where a step is made again."""
        number = 1 if current is None else int(current.partition(".")[0]) + 1
        return f"{number:010d}.{random.getrandbits(48):012x}"

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> "AttemptSaver":
        """The template says which types are kept."""
        return self

    async def _tuple(self, namespace: str, id: str | None) -> CheckpointTuple | None:
        found = await self._store.find(self._run, namespace, id)
        return await self._whole(found) if found else None

    async def _whole(self, row: Checkpoint) -> CheckpointTuple:
        state = self._codec.decode(row.state)
        metadata = state.pop("metadata")
        inline, versions = state.pop("inline"), state["channel_versions"]
        self._small |= {(row.namespace, name, versions[name]): inline[name] for name in inline}
        elsewhere = [each for each in versions.items() if each[0] not in inline]
        large = await self._store.values(self._run, row.namespace, elsewhere)
        found = [*inline.items(), *((name, data) for (name, _), data in large.items())]
        values = {name: self._codec.decode(data) for name, data in found}
        writes = await self._store.writes(self._run, row.namespace, [row.id])
        pending = [(each.task_id, each.channel, self._codec.decode(each.data)) for each in writes]
        return CheckpointTuple(
            config=self._config(row.namespace, row.id),
            checkpoint=cast(GraphCheckpoint, {**state, "channel_values": values}),
            metadata=cast(CheckpointMetadata, metadata),
            parent_config=self._config(row.namespace, row.parent_id) if row.parent_id else None,
            pending_writes=pending,
        )

    def _config(self, namespace: str, id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": self._run,
                "checkpoint_ns": namespace,
                "checkpoint_id": id,
            }
        }

    def _take(self, progress: Progress) -> _Batch:
        """With the next commit."""
        batch = self._batch
        batch.progress.checkpoints += progress.checkpoints
        batch.progress.values += progress.values
        batch.progress.writes += progress.writes
        return batch

    async def _write(self, progress: Progress) -> None:
        batch = self._take(progress)
        async with self._writing:
            if not batch.done:
                await self._commit(batch)
        if batch.error is not None:
            raise batch.error

    async def _commit(self, batch: _Batch) -> None:
        try:
            await _moment()
            await self._patiently(partial(self._closed, batch))
        except BaseException as error:
            batch.error = error
            raise
        finally:
            if self._batch is batch:
                self._batch = _Batch()
            batch.done = True

    def _closed(self, batch: _Batch) -> Progress:
        if self._batch is batch:
            self._batch = _Batch()
        return _needed(batch.progress, batch.deltas)

    async def _patiently(self, progress: Callable[[], Progress]) -> None:
        try:
            await self._witness.flush(progress)
            return
        except DatabaseUnavailable:
            import stamina

        tries = stamina.retry_context(
            on=DatabaseUnavailable, attempts=None, timeout=PATIENCE_S, wait_initial=0.1, wait_max=2
        )
        async for attempt in tries:
            with attempt:
                await self._witness.flush(progress)

    def _from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            running: object = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            work.close()
            raise ExecutionFailed(
                "Call a graph inside a node that is a coroutine with `await graph.ainvoke(...)`."
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _moment() -> None:
    """What a step's last task did is written, and the state behind it, in one go: LangGraph asks
    for both right after each other."""
    for _ in range(MOMENT):
        await asyncio.sleep(0)


def finished_tasks(writes: Sequence[PendingWrite] | None) -> set[str]:
    """Those that have a result, and are not run again."""
    return {task for task, channel, _ in writes or () if channel not in _NO_RESULT}


def pending_interrupts(writes: Sequence[PendingWrite] | None) -> Sequence[Interrupt]:
    """Of the tasks that are not finished."""
    finished = finished_tasks(writes)
    found: list[Interrupt] = []
    for task, channel, value in writes or ():
        if channel == INTERRUPT and task not in finished:
            found += value
    return found


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns") or "")


def _needed(progress: Progress, deltas: set[tuple[str, str | None]]) -> Progress:
    """Without what tasks did for states that are kept by now; LangGraph makes the values of some
    channels, `deltas`, of just that."""
    behind = {(each.namespace, each.parent_id) for each in progress.checkpoints} - deltas
    progress.writes = [
        each for each in progress.writes if (each.namespace, each.checkpoint_id) not in behind
    ]
    return progress
