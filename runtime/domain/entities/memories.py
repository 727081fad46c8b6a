import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import LineId, MemoryId, ProjectId, RunId, UserId

MAX_TEXT = 8_000
MAX_VALUE_BYTES = 32_768
MAX_KEY = 256
MAX_NAMESPACE = 256
MAX_TAGS = 16
MAX_TAG = 64


class MemoryScope(StrEnum):
    USER = "user"
    """Of one user, for every agent."""
    AGENT = "agent"
    """Of one user, for one agent line."""
    SHARED = "shared"
    """Of the project: for one agent line or for every agent, whoever talks to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something to be known again in later runs.

    Raises InvalidValue.
    """

    id: MemoryId
    project_id: ProjectId
    owner_id: UserId
    """Whom it belongs to; of a shared one, who wrote it first."""
    scope: MemoryScope
    line_id: LineId | None = None
    """None: for every agent."""
    namespace: str = ""
    """Where a graph's store keeps it: labels, joined by dots."""
    key: str | None = None
    """Unique in its place: the next fact under the same key takes this one's."""
    text: str
    value: object = None
    """JSON, beside the text."""
    tags: Sequence[str] = ()
    run_id: RunId | None = None
    """The run that last wrote it; None: a person did."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    revision: int = 1

    def __post_init__(self) -> None:
        of_agent = self.scope is MemoryScope.AGENT
        if self.scope is not MemoryScope.SHARED and of_agent != (self.line_id is not None):
            raise InvalidValue("The scope 'agent' goes with an agent.", param="agent")
        if not self.text.strip() and self.value is None:
            raise InvalidValue("It says nothing.", param="text")
        _at_most(MAX_TEXT, self.text, "text")
        _at_most(MAX_NAMESPACE, self.namespace, "namespace")
        if self.key is not None:
            if not self.key:
                raise InvalidValue("A key has at least one character.", param="key")
            _at_most(MAX_KEY, self.key, "key")
        if len(self.tags) > MAX_TAGS:
            raise InvalidValue(f"There may be {MAX_TAGS} tags at most.", param="tags")
        for tag in self.tags:
            if not tag.strip():
                raise InvalidValue("A tag has at least one character.", param="tags")
            _at_most(MAX_TAG, tag, "tags")
        _check_value(self.value)

    @property
    def identity(self) -> str:
        """The same for two facts of which the later takes the earlier's place: under one key, or
        with the same content."""
        owner = "" if self.scope is MemoryScope.SHARED else self.owner_id
        said = ["key", self.key] if self.key is not None else ["text", self.text, self.value]
        place = [self.scope, owner, self.line_id, self.namespace, *said]
        return sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    @property
    def searched(self) -> str:
        """The text that it is found by."""
        return " ".join([self.text, self.key or "", *self.tags])


@dataclass(frozen=True, slots=True)
class FoundFact:
    fact: Fact
    score: float
    """How well it fits what was asked for; comparable within one answer only."""


def _at_most(most: int, text: str, name: str) -> None:
    if len(text) > most:
        raise InvalidValue(f"It has at most {most:,} characters.", param=name)


def _check_value(value: object) -> None:
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue("It is no JSON that can be stored.", param="value") from error
    if size > MAX_VALUE_BYTES:
        raise InvalidValue(f"It has at most {MAX_VALUE_BYTES:,} bytes as JSON.", param="value")
