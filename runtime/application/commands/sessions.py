from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.ids import ItemId, SessionId
from runtime.domain.value_objects.items import Item


@dataclass(frozen=True, slots=True)
class CreateSession:
    caller: Principal
    metadata: Mapping[str, str]
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class DescribeSession:
    """Replace its metadata."""

    caller: Principal
    id: SessionId
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeleteSession:
    caller: Principal
    id: SessionId


@dataclass(frozen=True, slots=True)
class AddItems:
    caller: Principal
    id: SessionId
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class DeleteItem:
    caller: Principal
    id: SessionId
    item_id: ItemId
