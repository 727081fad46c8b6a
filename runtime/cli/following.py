"""A run's log, shown as it is written."""

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure, Passing

if TYPE_CHECKING:
    from runtime.cli.client import Client

Json = dict[str, Any]

MOST_FAILURES = 12
"""Connections in a row over which nothing came: about a minute."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
CANCELLED = 3


def follow(client: "Client", id: str, as_json: bool, after: int = 0) -> None:
    """To its end. Raises Failure unless it has completed."""
    # Whoever mistyped the address or the id is told at once.
    run = client.call("GET", "runs", id)
    last: Json = {"type": f"run.{run['status']}", **(run["error"] or {})}
    show = _Shown()
    for last in _events(client, id, after):
        if as_json:
            typer.echo(json.dumps(last, ensure_ascii=False))
        else:
            show.event(last)
    show.end()
    if last["type"] == "run.failed":
        raise Failure(last["message"])
    if last["type"] == "run.cancelled":
        raise Failure(f"{id} was cancelled.", CANCELLED)


def _events(client: "Client", id: str, after: int) -> Iterator[Json]:
    """Each once, over as many connections as it takes."""
    failures = 0
    while True:
        try:
            for event in client.events(id, after):
                failures = 0
                if event and event["seq"] > after:
                    after = event["seq"]
                    yield event
            return
        except Passing:
            failures += 1
            if failures > MOST_FAILURES:
                raise
        time.sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1)))


class _Shown:
    """Text on stdout, what else is to be known on stderr."""

    def __init__(self) -> None:
        self._at_terminal = sys.stdout.isatty()
        self._in_line = False

    def event(self, event: Json) -> None:
        match event["type"]:
            case "text.delta" | "refusal.delta":
                text = event["text"]
                typer.echo(output.harmless(text) if self._at_terminal else text, nl=False)
                self._in_line = True
            case "output.discarded":
                self._note("What was said does not count: it is said anew.")
            case "approval.requested":
                what = f"{event['tool']} {event['arguments']}".strip() or event["value"]
                self._note(f"Waits for a person's word on {event['approval_id']}: {what}")

    def end(self) -> None:
        if self._in_line:
            typer.echo()
        self._in_line = False

    def _note(self, text: str) -> None:
        self.end()
        typer.echo(output.harmless(text), err=True)
