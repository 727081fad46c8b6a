"""`priority`: one answer, of whichever source speaks first or, ranked, of the first that can."""

from collections.abc import Sequence
from contextlib import aclosing

from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.feed import Feed
from runtime.application.services.generation.modes import Combinator
from runtime.application.services.generation.sources import Batch, Source, Sourced, Stream
from runtime.domain.events.runs import OUTPUT, RunCancelled, RunCompleted, RunFailed

_SPOKEN = (*OUTPUT, RunCompleted, RunCancelled)
"""With one of these the answer is this source's. A run that is cancelled has not failed: its
caller is gone, or the runtime ends."""


class Priority(Combinator):
    """`race`: all begin, the first that has output wins, the others are cancelled.

    `ranked`: one after the other in their order, the next one where one fails without output.
    """

    def __init__(self, config: ModeConfig) -> None:
        self._ranked = config.choice("strategy", ("race", "ranked")) == "ranked"

    @property
    def in_turn(self) -> bool:
        return self._ranked

    def joined(self, sources: Sequence[Source]) -> Stream:
        return self._in_order(sources) if self._ranked else self._race(sources)

    async def _in_order(self, sources: Sequence[Source]) -> Stream:
        failures: list[Sourced] = []
        for source in sources:
            held: list[Sourced] | None = []
            async with aclosing(source.batches()) as batches:
                async for batch in batches:
                    if held is None:
                        yield batch
                        continue
                    held += batch
                    if _speaks(batch):
                        yield held
                        held = None
                    elif isinstance(batch[-1].event, RunFailed):
                        failures.append(batch[-1])
            if held is None:
                return
        for failure in failures:
            yield [failure]

    async def _race(self, sources: Sequence[Source]) -> Stream:
        feed = Feed([source.batches() for source in sources])
        held: list[list[Sourced]] = [[] for _ in sources]
        async with aclosing(feed):
            winner: int | None = None
            while not feed.ended:
                for index, batch in await feed.take():
                    if index == winner:
                        yield batch
                    elif winner is None:
                        held[index] += batch
                        if _speaks(batch):
                            winner = index
                            for other in sources:
                                if other.index != index:
                                    other.cancel()
                            yield held[index]
            if winner is None:
                for each in held:
                    yield each[-1:]


def _speaks(batch: Batch) -> bool:
    return any(isinstance(each.event, _SPOKEN) for each in batch)
