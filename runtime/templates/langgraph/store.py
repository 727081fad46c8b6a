"""LangGraph's store over the runtime's memories: `get_store()` and `runtime.store` in nodes."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from langgraph.store.base.embed import get_text_at_path

from runtime.domain.entities.memories import MAX_TEXT, Fact
from runtime.domain.errors import InvalidValue
from runtime.domain.services.memories import RunMemory, ScopeName
from runtime.templates.scope import current_run

MOST_COMPARED = 1_000
"""Facts that a filter is held against."""
_SCOPES: Mapping[str, ScopeName] = {"user": "user", "shared": "shared"}

Namespace = tuple[str, ...]


class RunStore(BaseStore):
    """Every namespace lies within what the run's user and agent share with nobody; one that begins
    with `user` is all of the user's agents', one that begins with `shared` the project's.

    `search` goes by words. A time to live counts from the last write.
    """

    supports_ttl = True

    def __init__(self, memory: Callable[[], RunMemory]) -> None:
        self._memory = memory

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """For nodes that are plain functions, which run in threads of their own."""
        if _in_a_loop():
            raise RuntimeError("In an async node use the store's async methods: aget, aput, …")
        work = self.abatch(list(ops))
        return asyncio.run_coroutine_threadsafe(work, current_run().loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        memory = self._memory()
        return [await self._one(memory, op) for op in ops]

    async def _one(self, memory: RunMemory, op: Op) -> Result:
        match op:
            case GetOp():
                scope, name = _place(op.namespace)
                fact = await memory.find(op.key, scope=scope, namespace=name)
                return None if fact is None else Item(**_fields(fact))
            case PutOp():
                await self._put(memory, op)
                return None
            case SearchOp():
                return await self._search(memory, op)
            case ListNamespacesOp():
                return await self._namespaces(memory, op)

    async def _put(self, memory: RunMemory, op: PutOp) -> None:
        scope, name = _place(op.namespace)
        if op.value is None:
            await memory.forget(op.key, scope=scope, namespace=name)
            return
        await memory.remember(
            _text_of(op.value, op.index),
            key=op.key,
            value=dict(op.value),
            scope=scope,
            namespace=name,
            expires_in_s=None if op.ttl is None else op.ttl * 60,
        )

    async def _search(self, memory: RunMemory, op: SearchOp) -> list[SearchItem]:
        prefix = op.namespace_prefix
        place, name = _place(prefix)
        scope = place if prefix else None
        last = op.offset + op.limit
        most = max(MOST_COMPARED, last) if op.filter else last
        scored: list[tuple[Fact, float | None]]
        if op.query:
            found = await memory.search(op.query, limit=most, scope=scope, namespace=name)
            scored = [(each.fact, each.score) for each in found]
        else:
            facts = await memory.list(limit=most, scope=scope, namespace=name)
            scored = [(fact, None) for fact in facts]
        kept = [
            SearchItem(**_fields(fact), score=score)
            for fact, score in scored
            if fact.namespace and _fits(fact.value, op.filter or {})
        ]
        return kept[op.offset : last]

    async def _namespaces(self, memory: RunMemory, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        prefix = next((each.path for each in conditions if each.match_type == "prefix"), ())
        scopes: Sequence[ScopeName] = ("agent", "user", "shared")
        if prefix and prefix[0] != "*":
            scopes = (_SCOPES.get(prefix[0], "agent"),)
        found = {
            namespace[: op.max_depth]
            for scope in scopes
            for namespace in map(_labels, await memory.namespaces(scope=scope))
            if namespace and all(_matches(namespace, each) for each in conditions)
        }
        return sorted(found)[op.offset : op.offset + op.limit]


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _place(namespace: Namespace) -> tuple[ScopeName, str]:
    for label in namespace:
        if not label or "." in label:
            raise InvalidValue("A label of a namespace is a text without dots.", param="namespace")
    return _SCOPES.get(namespace[0] if namespace else "", "agent"), ".".join(namespace)


def _labels(name: str) -> Namespace:
    return tuple(name.split(".")) if name else ()


def _fields(fact: Fact) -> dict[str, Any]:
    return {
        "namespace": _labels(fact.namespace),
        "key": fact.key,
        "value": fact.value if isinstance(fact.value, dict) else {"text": fact.text},
        "created_at": fact.created_at,
        "updated_at": fact.updated_at,
    }


def _text_of(value: Mapping[str, Any], index: Literal[False] | Sequence[str] | None) -> str:
    """What the item is found by: the texts in it, or those at the paths of `index`."""
    if index is False:
        return ""
    paths = None if index is None else list(index)
    texts = _texts(value) if paths is None else _at_paths(value, paths)
    return "\n".join(texts)[:MAX_TEXT]


def _at_paths(value: Mapping[str, Any], paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        yield from get_text_at_path(value, path)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _fits(value: object, wanted: Mapping[str, Any]) -> bool:
    given = value if isinstance(value, dict) else {}
    return all(_compared(given.get(name), each) for name, each in wanted.items())


def _compared(given: object, wanted: object) -> bool:
    if isinstance(wanted, Mapping) and any(name.startswith("$") for name in wanted):
        return all(_holds(given, sign, each) for sign, each in wanted.items())
    return given == wanted


def _holds(given: object, sign: str, wanted: object) -> bool:
    if sign in ("$eq", "$ne"):
        return (given == wanted) == (sign == "$eq")
    if sign not in ("$gt", "$gte", "$lt", "$lte"):
        raise InvalidValue(f"A filter knows no '{sign}'.", param="filter")
    try:
        left, right = float(cast(float, given)), float(cast(float, wanted))
    except (TypeError, ValueError):
        return False
    outcomes = {"$gt": left > right, "$gte": left >= right, "$lt": left < right}
    return outcomes.get(sign, left <= right)


def _matches(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
