"""What every format of a stream has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from runtime.application.services.generation.sources import Batch
from runtime.domain.events.runs import RunCancelled, RunFailed
from runtime.infrastructure.web.streaming.events import shown

EVENTS = "text/event-stream"
MARK = "\x00"


class Encoder(ABC):
    """One stream's events in one format: any number of `encode`, then `end` or `fail`.

    Where answers are `tagged`, several come at once: each event says whose it is, and one source's
    failure is an event among others.
    """

    media_type: ClassVar[str] = EVENTS
    headers: ClassVar[Mapping[str, str]] = {}
    tells_apart: ClassVar[bool] = True
    """Whether it can be tagged."""

    def __init__(self, names: Sequence[str], *, tagged: bool = False) -> None:
        """`names` are those of the sources."""
        self.names = names
        self.tagged = tagged

    @abstractmethod
    def encode(self, batch: Batch) -> bytes: ...

    @abstractmethod
    def fail(self, error: BaseException) -> bytes | None:
        """The last of a stream that failed; None where the format can't say it."""

    @abstractmethod
    def end(self) -> bytes:
        """The last of a stream that came to its proper end."""


class TypedEncoder(Encoder):
    """Objects with a `type`, as `events.shown` names them.

    Text, which is nearly all of a stream, is put between two halves of an object made beforehand.
    """

    def __init__(self, names: Sequence[str], *, tagged: bool = False) -> None:
        super().__init__(names, tagged=tagged)
        self._halves = [self._halved(name) for name in names]

    def object(self, source: int, event: Any) -> dict[str, Any] | None:  # noqa: ANN401 - a RunEvent
        """None for what this format's readers are not told."""
        if isinstance(event, RunFailed | RunCancelled) and not self.tagged:
            return None
        if not (named := shown(event)):
            return None
        name, data = named
        told = self.tagged or name == "start"
        return {"type": name, **({"source": self.names[source]} if told else {}), **data}

    def _halved(self, name: str) -> tuple[bytes, bytes]:
        tag = {"source": name} if self.tagged else {}
        return halves({"type": "text-delta", **tag, "content": MARK})


def halves(payload: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Of its JSON, before and after the one value that is MARK."""
    before, after = orjson.dumps(payload).split(orjson.dumps(MARK))
    return before, after


def frame(payload: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(payload)
