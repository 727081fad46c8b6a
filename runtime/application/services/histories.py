"""What is remembered of a conversation, as the messages that a model reads."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.domain.entities.sessions import Session
from runtime.domain.repositories.sessions import SessionRepository
from runtime.domain.value_objects.chat import AudioPart, ChatRole, FilePart, ImagePart, Message
from runtime.domain.value_objects.ids import SessionId
from runtime.domain.value_objects.memory import Known, known

MOST_CACHED = 16_000_000
"""Characters, in all sessions together."""
MOST_OF_ONE = 256
"""Messages of one session that are cached."""


@dataclass(frozen=True, slots=True)
class History:
    messages: Sequence[Known]
    start: int
    """The position from which on they are all there is."""

    @property
    def complete(self) -> bool:
        return self.start == 0

    def has(self, wanted: int | None, since: int) -> bool:
        if wanted is None:
            return self.start <= since
        return self.complete or len(self.messages) >= wanted

    def latest(self, wanted: int | None) -> "History":
        """No longer than `wanted`, but never beginning with a result whose call is left out."""
        start = 0 if wanted is None else max(0, len(self.messages) - wanted)
        while start and self.messages[start].message.role is ChatRole.TOOL:
            start -= 1
        return History(self.messages[start:], self.messages[start - 1].end) if start else self


async def load(
    sessions: SessionRepository, session: Session, wanted: int | None, since: int = 0
) -> History:
    """At least the `wanted` latest messages; None: all from position `since` on."""
    if wanted is None:
        found = known(await sessions.latest(session.id, None, since=since))
        return History(found, since)
    limit = wanted + 1
    while True:
        items = await sessions.latest(session.id, limit)
        found = known(items)
        if len(items) < limit:
            return History(found, 0)
        # The first one may be the end of a longer message.
        rest = found[1:]
        if len(rest) >= wanted and (not rest or rest[0].message.role is not ChatRole.TOOL):
            return History(rest, found[0].end)
        limit *= 2


@dataclass
class HistoryCache:
    """The latest messages of sessions, good for the revision that they were read at."""

    size: int = MOST_CACHED
    _kept: OrderedDict[SessionId, tuple[str, History, int]] = field(default_factory=OrderedDict)
    _weight: int = 0

    def get(self, session: Session) -> History | None:
        entry = self._kept.get(session.id)
        if entry is None:
            return None
        self._kept.move_to_end(session.id)
        return entry[1] if entry[0] == session.revision else None

    def put(self, id: SessionId, revision: str, history: History) -> None:
        self.drop(id)
        history = history.latest(MOST_OF_ONE)
        weight = 200 + sum(_weight(each.message) for each in history.messages)
        if weight > self.size:
            return
        self._kept[id] = (revision, history, weight)
        self._weight += weight
        while self._weight > self.size:
            self.drop(next(iter(self._kept)))

    def drop(self, id: SessionId) -> None:
        entry = self._kept.pop(id, None)
        if entry is not None:
            self._weight -= entry[2]


def _weight(message: Message) -> int:
    calls = sum(len(call.arguments) + 100 for call in message.tool_calls)
    return 200 + len(message.text) + calls + _weight_of_parts(message)


def _weight_of_parts(message: Message) -> int:
    if isinstance(message.content, str):
        return 0
    weight = 0
    for part in message.content:
        match part:
            case ImagePart():
                weight += len(part.url)
            case AudioPart():
                weight += len(part.data)
            case FilePart():
                weight += len(part.data or "")
    return weight
