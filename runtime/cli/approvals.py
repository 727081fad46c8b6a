"""`agent-runtime approvals …`: what runs wait for, and a person's word, over HTTP."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, connect

if TYPE_CHECKING:
    from runtime.cli.client import Client

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="What runs wait for, and your word on it.")
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; the model reads it where you reject.")]
COLUMNS = ("Id", "Run", "Waits for", "Arguments or question", "Since", "Decision")


@app.command("list")
def list_approvals(
    everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """What waits for you, newest first."""
    client = connect(url, token)
    found = every(client, "approvals")
    shown = [each for each in found if everything or each["status"] == "pending"]
    if as_json:
        output.print_json(shown)
        return
    output.print_table(
        COLUMNS,
        (
            (
                each["id"],
                each["run_id"],
                each["tool"] if each["kind"] == "tool" else f"{each['kind']} {each['tool'] or ''}",
                each["arguments"] if each["tool"] else each["value"],
                each["requested_at"],
                each["decision"],
            )
            for each in shown
        ),
    )


@app.command()
def approve(
    id: Id,
    value: Annotated[
        str | None, typer.Option(help="JSON: what the graph's interrupt returns.")
    ] = None,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Let the call be made as it is; or one whose outcome nobody knows once more."""
    word: Json = {"decision": "approve", "reason": reason}
    if value is not None:
        word["value"] = _json(value)
    _decide(connect(url, token), id, word, as_json)


@app.command()
def edit(
    id: Id,
    arguments: Annotated[
        str | None, typer.Option(help="JSON: what the tool is called with instead.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="JSON: what a call gave of which nobody knows.")
    ] = None,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Let the call be made otherwise, or say what it gave."""
    word: Json = {"decision": "edit", "reason": reason}
    for name, text in (("arguments", arguments), ("value", value)):
        if text is not None:
            word[name] = _json(text)
    _decide(connect(url, token), id, word, as_json)


@app.command()
def reject(
    id: Id, reason: Reason = "", url: Url = None, token: Token = None, as_json: AsJson = False
) -> None:
    """Do not let the call be made."""
    _decide(connect(url, token), id, {"decision": "reject", "reason": reason}, as_json)


def _decide(client: "Client", id: str, word: Json, as_json: bool) -> None:
    asked = next((each for each in every(client, "approvals") if each["id"] == id), None)
    if asked is None:
        raise Failure(f"Approval '{id}' does not exist.")
    if asked["arguments_hash"]:
        word["arguments_hash"] = asked["arguments_hash"]
    decided = client.call("POST", "runs", asked["run_id"], "approvals", id, body=word)
    if as_json:
        output.print_json(decided)
    else:
        output.say(f"{id} of {asked['run_id']}: {decided['decision']}.")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"'{text}' is no JSON: {error}.", 2) from error
