from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A slice of a list, newest first."""

    items: Sequence[T]
    next_cursor: str | None
    """Pass it back to get the items after this page; None on the last one."""
