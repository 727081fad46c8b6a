"""`agent-runtime webhooks …`: who is told of events, and what became of it, over HTTP."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, Yes, connect

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True, help="Addresses that are told of events, signed as Standard Webhooks."
)
COLUMNS = ("Id", "URL", "Events", "Scope", "Enabled", "Failing since")
DELIVERY_COLUMNS = ("Id", "Type", "Status", "Tries", "Next", "Last status", "Last error")
PAGE = 200


class Status(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


Id = Annotated[str, typer.Argument(metavar="ID", help="As `webhooks list` shows it.")]


@app.command("list")
def list_webhooks(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Yours; for an admin, the project's."""
    found = every(connect(url, token), "webhooks")
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("No webhook.")


@app.command()
def create(
    address: Annotated[str, typer.Argument(metavar="URL", help="What is told.")],
    event: Annotated[
        list[str],
        typer.Option(help="Such as run.failed; '*' for all. May be given several times."),
    ],
    agent: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    project: Annotated[
        bool, typer.Option(help="Of everybody's runs and agents; for admins.")
    ] = False,
    include_output: Annotated[bool, typer.Option(help="With what runs answered.")] = False,
    description: Annotated[str, typer.Option()] = "",
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Be told of events. Prints the secret that signs them, this once."""
    body: Json = {
        "url": address,
        "events": event,
        "agent": agent,
        "scope": "project" if project else "own",
        "include_output": include_output,
        "description": description,
    }
    made = connect(url, token).call("POST", "webhooks", body=body)
    if as_json:
        output.print_json(made)
        return
    typer.echo(f"{made['id']} is made. Keep its secret; it is not shown again:", err=True)
    output.say(made["secret"])


@app.command()
def delete(id: Id, yes: Yes = False, url: Url = None, token: Token = None) -> None:
    """With everything that is not delivered yet."""
    if not yes:
        typer.confirm(f"Delete {output.harmless(id)}?", abort=True)
    connect(url, token).call("DELETE", "webhooks", id)
    output.say(f"{output.harmless(id)} is deleted.")


@app.command("test")
def try_webhook(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Send a test message now. The exit code is 1 when it does not arrive."""
    trial = connect(url, token).call("POST", "webhooks", id, "test")
    if as_json:
        output.print_json(trial)
    else:
        output.print_pairs(trial)
    if not trial["delivered"]:
        raise typer.Exit(1)


@app.command()
def deliveries(
    id: Id,
    status: Annotated[Status | None, typer.Option(help="pending, delivered or dead.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """The last 200 of what it was told, newest first."""
    query: dict[str, str | int] = {"limit": PAGE, **({"status": status.value} if status else {})}
    found = connect(url, token).call("GET", "webhooks", id, "deliveries", query=query)["data"]
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(DELIVERY_COLUMNS, map(_delivery, found))
    else:
        output.say("No delivery.")


@app.command()
def retry(id: Id, delivery: str, url: Url = None, token: Token = None) -> None:
    """Send a delivery again, at once."""
    path = ("webhooks", id, "deliveries", delivery, "retry")
    output.say(f"{connect(url, token).call('POST', *path)['id']} is due.")


def _row(webhook: Json) -> tuple[object, ...]:
    names = ("id", "url", "events", "scope", "enabled", "failing_since")
    return tuple(webhook[name] for name in names)


def _delivery(delivery: Json) -> tuple[object, ...]:
    names = ("id", "type", "status", "attempts", "next_at", "last_status_code", "last_error")
    return tuple(delivery[name] for name in names)
