"""What is in a graph's state, as bytes and back.

MessagePack, with one extension for everything that is no plain data: the name of its type and what
it is made of. A type is known or refused: nothing that is read imports or calls what it names.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path, PosixPath, PurePath, WindowsPath
from typing import Any
from uuid import UUID

import ormsgpack
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy
from pydantic import BaseModel

from runtime.domain.errors import StateNotStorable, StateUnreadable

_FORM = b"\x01"
"""The first byte: what is written otherwise, say by pickle, is not even looked at."""
_CODE = 1
_OPTIONS = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)
_REMEDY = (
    "keep plain data, langchain messages or ids in the graph's state, or list the type in "
    "`checkpoint_types` of the template."
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a type are taken apart and put together again."""

    name: str
    parts: Callable[[Any], Any]
    whole: Callable[[Any], Any]


def _of_model(cls: type[BaseModel], name: str) -> Kind:
    def parts(model: BaseModel) -> dict[str, object]:
        return {**model.__dict__, **(model.__pydantic_extra__ or {})}

    return Kind(name, parts, lambda parts: cls.model_construct(**parts))


def _of_dataclass(cls: type, name: str) -> Kind:
    names = [each.name for each in fields(cls)]

    def whole(parts: Mapping[str, object]) -> object:
        made: object = object.__new__(cls)
        for name in names:
            object.__setattr__(made, name, parts[name])
        return made

    return Kind(name, lambda value: {name: getattr(value, name) for name in names}, whole)


def _kind_of(cls: type) -> Kind:
    """Raises ValueError for a type of which nobody knows what it is made of."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    if issubclass(cls, BaseModel):
        return _of_model(cls, name)
    if is_dataclass(cls):
        return _of_dataclass(cls, name)
    if issubclass(cls, Enum):
        return Kind(name, lambda value: value.value, cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return Kind(name, list, lambda parts: cls(*parts))
    raise ValueError(
        f"checkpoint_types: {name} is no pydantic model, dataclass, enum or named tuple."
    )


_MESSAGES: Sequence[type[BaseMessage]] = (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
_KNOWN: Mapping[type, Kind] = {
    **{each: _of_model(each, each.__name__) for each in _MESSAGES},
    tuple: Kind("tuple", list, tuple),
    set: Kind("set", list, set),
    frozenset: Kind("frozenset", list, frozenset),
    deque: Kind("deque", list, deque),
    datetime: Kind("datetime", datetime.isoformat, datetime.fromisoformat),
    date: Kind("date", date.isoformat, date.fromisoformat),
    time: Kind("time", time.isoformat, time.fromisoformat),
    timedelta: Kind(
        "timedelta", lambda it: [it.days, it.seconds, it.microseconds], lambda it: timedelta(*it)
    ),
    timezone: Kind("timezone", lambda it: it.utcoffset(None).total_seconds(), lambda it: _zone(it)),
    UUID: Kind("uuid", str, UUID),
    Decimal: Kind("decimal", str, Decimal),
    **dict.fromkeys((PosixPath, WindowsPath, PurePath), Kind("path", str, Path)),
    _DeltaSnapshot: Kind("delta", lambda it: it.value, _DeltaSnapshot),
    Overwrite: Kind("overwrite", lambda it: it.value, Overwrite),
    Interrupt: Kind(
        "interrupt",
        lambda it: [it.value, it.id, it.response_schema],
        lambda it: Interrupt(it[0], it[1], response_schema=it[2]),
    ),
    Send: Kind(
        "send",
        lambda it: [it.node, it.arg, it.timeout],
        lambda it: Send(it[0], it[1], timeout=it[2]),
    ),
    TimeoutPolicy: _of_dataclass(TimeoutPolicy, "timeout"),
    Command: _of_dataclass(Command, "command"),
}


def _zone(offset_s: float) -> timezone:
    return timezone(timedelta(seconds=offset_s))


class StateCodec:
    """For the states of one template's graphs. Raises ValueError for a type that can't be kept."""

    def __init__(self, types: Sequence[type] = ()) -> None:
        self._kinds = {**_KNOWN, **{each: _kind_of(each) for each in types}}
        self._names = {kind.name: kind for kind in self._kinds.values()}
        self._refused: type | None = None

    def encode(self, value: object) -> bytes:
        """Raises StateNotStorable."""
        self._refused = None
        try:
            return _FORM + self._packed(value)
        except (ormsgpack.MsgpackEncodeError, RecursionError) as error:
            cls = self._refused or type(value)
            remedy = _REMEDY if self._refused else f"{error}."
            raise StateNotStorable(f"{cls.__module__}.{cls.__qualname__}", remedy) from error

    def _packed(self, value: object) -> bytes:
        return ormsgpack.packb(value, default=self._taken_apart, option=_OPTIONS)

    def decode(self, data: bytes) -> Any:  # noqa: ANN401
        """Raises StateUnreadable."""
        return _unpacked(data, self._put_together)

    def _taken_apart(self, value: object) -> object:
        kind = self._kinds.get(type(value))
        if kind is None:
            if isinstance(value, BaseException):
                return repr(value)
            self._refused = self._refused or type(value)
            raise TypeError
        return ormsgpack.Ext(_CODE, self._packed([kind.name, kind.parts(value)]))

    def _put_together(self, code: int, data: bytes) -> object:
        name, parts = _named_parts(code, data, self._put_together)
        kind = self._names.get(name)
        if kind is None:
            raise StateUnreadable(
                f"the template no longer keeps values of the type {name}; list it in its "
                "`checkpoint_types`."
            )
        return kind.whole(parts)


def plain(data: bytes) -> Any:  # noqa: ANN401
    """For people: what values are made of, whatever their types. Raises StateUnreadable."""
    return _unpacked(data, _only_parts)


def _only_parts(code: int, data: bytes) -> object:
    return _named_parts(code, data, _only_parts)[1]


def _named_parts(code: int, data: bytes, hook: Callable[[int, bytes], object]) -> tuple[str, Any]:
    if code != _CODE:
        raise StateUnreadable("it has a form that is not written here.")
    name, parts = ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
    return name, parts


def _unpacked(data: bytes, hook: Callable[[int, bytes], object]) -> Any:  # noqa: ANN401
    if data[:1] != _FORM:
        raise StateUnreadable("it has a form that is not written here.")
    try:
        return ormsgpack.unpackb(data[1:], ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
    except StateUnreadable:
        raise
    # Whatever a type makes of parts that are not its own, they can't be gone on from.
    except Exception as error:
        raise StateUnreadable("it is damaged, or was written by other code.") from error
