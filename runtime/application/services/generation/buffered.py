"""`buffered`: fewer, larger pieces of text."""

from contextlib import aclosing
from time import monotonic

from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.feed import Feed
from runtime.application.services.generation.modes import Single
from runtime.application.services.generation.sources import Batch, Sourced, Stream
from runtime.domain.events.runs import TextDelta


class Buffered(Single):
    """Text comes out when there are `buffer_size` bytes of it, when its first piece has waited
    for `flush_interval` seconds, before anything that is not text, and at the end."""

    def __init__(self, config: ModeConfig) -> None:
        self.size = config.integer("buffer_size", 1_024, least=1, most=1_000_000)
        self.interval_s = config.number("flush_interval", 0.1, least=0.001, most=60)

    async def stream(self, events: Stream) -> Stream:
        feed, held = Feed([events]), _Held(self.size)
        async with aclosing(feed):
            while not feed.ended:
                left_s = held.since + self.interval_s - monotonic() if held else None
                for _, batch in await feed.take(None if left_s is None else max(left_s, 0)):
                    if out := held.after(batch):
                        yield out
                if held and monotonic() - held.since >= self.interval_s:
                    yield [held.out()]
            if held:
                yield [held.out()]


class _Held:
    """Text that waits for more."""

    def __init__(self, most: int) -> None:
        self.since = 0.0
        self._most = most
        self._source = 0
        self._texts: list[str] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._texts)

    def after(self, batch: Batch) -> list[Sourced]:
        """What comes out when this has come."""
        out: list[Sourced] = []
        for each in batch:
            if type(each.event) is TextDelta:
                self._add(each.source, each.event.text)
                if self._bytes >= self._most:
                    out.append(self.out())
            else:
                if self._texts:
                    out.append(self.out())
                out.append(each)
        return out

    def out(self) -> Sourced:
        text = "".join(self._texts)
        self._texts, self._bytes = [], 0
        return Sourced(self._source, TextDelta(text))

    def _add(self, source: int, text: str) -> None:
        if not self._texts:
            self.since = monotonic()
            self._source = source
        self._texts.append(text)
        self._bytes += len(text) if text.isascii() else len(text.encode())
