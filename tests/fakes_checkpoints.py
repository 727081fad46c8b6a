"""Checkpoints of durable runs, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from runtime.domain.entities.runs import RunStatus
from runtime.domain.errors import CheckpointNotFound
from runtime.domain.repositories.checkpoints import (
    ChannelValue,
    Checkpoint,
    CheckpointStore,
    Fork,
    Progress,
    TaskWrite,
    Version,
)
from runtime.domain.repositories.pruning import Pruner
from runtime.domain.services.durability import AttemptLost
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import RunId
from tests.fakes import MemoryStore


@dataclass
class _Kept:
    checkpoints: dict[tuple[str, str], Checkpoint] = field(default_factory=dict)
    values: dict[tuple[str, str, str], ChannelValue] = field(default_factory=dict)
    writes: dict[tuple[str, str, str, int], TaskWrite] = field(default_factory=dict)


class MemoryCheckpointStore(CheckpointStore, Pruner):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.runs: dict[RunId, _Kept] = {}
        self._scopes: dict[RunId, Scope] = {}
        self.failures: list[Exception] = []
        """Raised by the next writes, the last first."""
        self.saves = 0

    async def save(self, run: RunId, attempt: int, progress: Progress) -> None:
        if self.failures:
            raise self.failures.pop()
        now = self._store.tables.durable.get(run)
        if now is None or (now.attempt, now.status) != (attempt, RunStatus.RUNNING):
            raise AttemptLost
        self.saves += 1
        kept = self.runs.setdefault(run, _Kept())
        kept.checkpoints |= {(each.namespace, each.id): each for each in progress.checkpoints}
        kept.values |= {
            (each.namespace, each.channel, each.version): each for each in progress.values
        }
        kept.writes |= {
            (each.namespace, each.checkpoint_id, each.task_id, each.position): each
            for each in progress.writes
        }

    async def find(
        self, run: RunId, namespace: str = "", id: str | None = None
    ) -> Checkpoint | None:
        found = await self.history(run, namespace)
        return next((each for each in found if id in (None, each.id)), None)

    async def values(
        self, run: RunId, namespace: str, versions: Sequence[Version]
    ) -> Mapping[Version, bytes]:
        kept = self._of(run).values
        places = {each: (namespace, *each) for each in versions}
        return {each: kept[at].data for each, at in places.items() if at in kept}

    async def writes(
        self, run: RunId, namespace: str, checkpoints: Sequence[str]
    ) -> Sequence[TaskWrite]:
        found = [
            each
            for each in self._of(run).writes.values()
            if each.namespace == namespace and each.checkpoint_id in checkpoints
        ]
        return sorted(found, key=lambda each: (each.task_path, each.task_id, each.position))

    async def history(
        self,
        run: RunId,
        namespace: str = "",
        *,
        scope: Scope | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Checkpoint]:
        if scope is not None and not self._shows(scope, run):
            return []
        found = [each for each in self._of(run).checkpoints.values() if each.namespace == namespace]
        found.sort(key=lambda each: (each.step, each.id), reverse=True)
        if before is not None:
            ids = [each.id for each in found]
            found = found[ids.index(before) + 1 :] if before in ids else []
        return found[:limit]

    async def copy(self, source: RunId, target: RunId, scope: Scope) -> None:
        kept = self._of(source)
        newest = {
            each.namespace: each
            for each in sorted(kept.checkpoints.values(), key=lambda each: (each.step, each.id))
        }
        if newest:
            self._scopes[target] = scope
            self.runs[target] = _Kept(
                {(ns, each.id): replace(each, source="copy") for ns, each in newest.items()},
                {
                    at: each
                    for at, each in kept.values.items()
                    if at[2] == max(v for ns, name, v in kept.values if (ns, name) == at[:2])
                },
                {at: each for at, each in kept.writes.items() if newest[at[0]].id == at[1]},
            )

    async def fork(self, fork: Fork, writes: Sequence[TaskWrite] = ()) -> None:
        kept = self._of(fork.source)
        place = "", fork.checkpoint_id
        if place not in kept.checkpoints:
            raise CheckpointNotFound(fork.checkpoint_id)
        self._scopes[fork.target] = fork.scope
        self.runs[fork.target] = _Kept(
            {place: replace(kept.checkpoints[place], source=fork.begins)},
            {at: each for at, each in kept.values.items() if not at[0] and at[1:] in fork.versions},
            {("", each.checkpoint_id, each.task_id, each.position): each for each in writes},
        )

    async def delete(self, run: RunId) -> None:
        self.runs.pop(run, None)

    async def prune(self, before: datetime) -> int:
        old = [
            run
            for run, kept in self.runs.items()
            if all(each.created_at < before for each in kept.checkpoints.values())
            and self._ended(run, before)
        ]
        for run in old:
            await self.delete(run)
        return len(old)

    def _of(self, run: RunId) -> _Kept:
        return self.runs.get(run, _Kept())

    def _ended(self, id: RunId, before: datetime) -> bool:
        run = self._store.tables.durable.get(id)
        return run is None or (run.ended_at is not None and run.ended_at < before)

    def _shows(self, scope: Scope, run: RunId) -> bool:
        durable = self._store.tables.durable.get(run)
        of = self._scopes.get(run) or (durable.scope if durable else None)
        if of is None:
            return True
        mine = scope.administers or of.user_id == scope.user_id
        return of.project_id == scope.project_id and mine
