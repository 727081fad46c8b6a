"""What of a run's log counts."""

from collections.abc import Sequence

from runtime.domain.events.runs import OUTPUT, OutputDiscarded, RunEvent


def counting(events: Sequence[RunEvent]) -> list[tuple[int, RunEvent]]:
    """Each with its number, from 1 on, without output that was discarded."""
    kept: list[tuple[int, RunEvent]] = []
    for number, event in enumerate(events, 1):
        if isinstance(event, OutputDiscarded):
            kept = [(n, e) for n, e in kept if n <= event.after or not isinstance(e, OUTPUT)]
        else:
            kept.append((number, event))
    return kept


def effective(events: Sequence[RunEvent]) -> Sequence[RunEvent]:
    """Without output that was discarded."""
    if not any(isinstance(event, OutputDiscarded) for event in events):
        return events
    return [event for _, event in counting(events)]
