"""`agent-runtime memories …`: what agents know from earlier runs, over HTTP."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, connect

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="What agents know of you from earlier runs, and what the project shares.",
)
COLUMNS = ("Id", "Scope", "Key", "Text", "Tags", "Updated")
SHOWN = 80
"""Characters of a text in a table."""


class Scope(StrEnum):
    USER = "user"
    AGENT = "agent"
    SHARED = "shared"


@app.command("list")
def list_memories(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """All of it, newest first."""
    _show(every(connect(url, token), "memories"), as_json)


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="WORDS", show_default=False)],
    agent: Annotated[str | None, typer.Option(help="Only what this agent knows.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 10,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """What fits best, first."""
    asked: dict[str, str | int] = {"query": query, "limit": limit}
    if agent is not None:
        asked["agent"] = agent
    _show(connect(url, token).call("GET", "memories", query=asked)["data"], as_json)


@app.command()
def add(
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    key: Annotated[str | None, typer.Option(help="In place of what is under it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Any number of them.")] = None,
    scope: Annotated[Scope, typer.Option(help="Who knows it.")] = Scope.USER,
    agent: Annotated[str | None, typer.Option(help="Which agent, for that scope.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Have something known in later runs."""
    fields = {"key": key, "tags": tag, "agent": agent}
    body: Json = {"text": text, "scope": scope.value}
    body |= {name: value for name, value in fields.items() if value is not None}
    made = connect(url, token).call("POST", "memories", body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{made['id']} is remembered.")


@app.command()
def forget(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is known of you.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Forget one, or with --all everything but for what you share."""
    if (id is None) != everything:
        raise Failure("Give either the id of a memory or --all.", exit_code=2)
    client = connect(url, token)
    if id is not None:
        client.call("DELETE", "memories", id)
        output.say(f"{output.harmless(id)} is forgotten.")
        return
    if not yes:
        typer.confirm("Forget all that agents know of you?", abort=True)
    gone = client.call("DELETE", "memories", query={"all": "true"})["deleted"]
    output.say(f"{gone} memories are forgotten.")


def _show(found: list[Json], as_json: bool) -> None:
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("Nothing.")


def _row(memory: Json) -> tuple[object, ...]:
    text = " ".join(memory["text"].split())
    return (
        memory["id"],
        memory["scope"],
        memory["key"],
        text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…",
        ", ".join(memory["tags"]),
        memory["updated_at"],
    )
