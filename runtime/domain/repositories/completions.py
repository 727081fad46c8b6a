from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.value_objects.chat import Message
from runtime.domain.value_objects.ids import CompletionId
from runtime.domain.value_objects.pages import Page


@dataclass(frozen=True, slots=True)
class CompletionFilter:
    model: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Each has to be there with this value."""


class CompletionRepository(Protocol):
    """Kept chat completions of the scope's project; without `administers`, one's own."""

    async def add(self, completion: ChatCompletion, asked: Sequence[Message]) -> None:
        """`asked`: the messages that it answers."""

    async def get(self, id: CompletionId) -> ChatCompletion:
        """Raises CompletionNotFound."""

    async def asked(self, id: CompletionId) -> Sequence[Message]:
        """Raises CompletionNotFound."""

    async def page(
        self,
        where: CompletionFilter,
        *,
        limit: int,
        after: CompletionId | None,
        newest_first: bool,
    ) -> Page[ChatCompletion]:
        """`after` is the id of the last one seen, and so is the next cursor. Raises InvalidValue
        where it is none of this list's."""

    async def relabel(self, id: CompletionId, labels: Mapping[str, str]) -> None:
        """Raises CompletionNotFound."""

    async def remove(self, id: CompletionId) -> None:
        """Raises CompletionNotFound."""
