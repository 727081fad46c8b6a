"""`interleaved`: the answers of all sources, as their pieces come."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import ClassVar

from runtime.application.services.generation.feed import Feed
from runtime.application.services.generation.modes import Combinator
from runtime.application.services.generation.sources import Source, Stream


class Interleaved(Combinator):
    """It ends when all have; one that fails says so and leaves the others alone."""

    mixes: ClassVar[bool] = True

    async def joined(self, sources: Sequence[Source]) -> Stream:
        feed = Feed([source.batches() for source in sources])
        async with aclosing(feed):
            while not feed.ended:
                for _, batch in await feed.take():
                    yield batch
