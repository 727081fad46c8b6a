"""Logs of runs: said in fewer events, and without what does not count."""

from collections.abc import Sequence

from runtime.domain.events.runs import (
    ReasoningDelta,
    RunEvent,
    TextDelta,
)


def merged(events: Sequence[RunEvent]) -> list[RunEvent]:
    """The same said in fewer events: pieces of text in a row become one."""
    fewer: list[RunEvent] = []
    pieces: list[str] = []

    def flush(kind: type[TextDelta | ReasoningDelta]) -> None:
        if pieces:
            fewer.append(kind("".join(pieces)))
            pieces.clear()

    kind: type[TextDelta | ReasoningDelta] = TextDelta
    for event in events:
        plain = isinstance(event, ReasoningDelta) or (
            isinstance(event, TextDelta) and event.logprobs is None
        )
        if (plain and type(event) is not kind) or not plain:
            flush(kind)
        if plain:
            assert isinstance(event, TextDelta | ReasoningDelta)
            kind = type(event)
            pieces.append(event.text)
        else:
            fewer.append(event)
    flush(kind)
    return fewer
