"""`agent-runtime runs …`: durable runs, over HTTP."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.following import follow as follow_run
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, connect

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="Order runs that outlive you, and look after them.")
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
COLUMNS = ("Id", "Agent", "Status", "Ordered", "Ended", "Attempt", "Error")
STEP_COLUMNS = ("Step", "Status", "Attempt", "ms", "Id")
CALL_COLUMNS = ("Tool", "Arguments", "Status", "Output", "Attempt", "ms")
CHECKPOINT_COLUMNS = ("Id", "Step", "Source", "Made", "Next")


@app.command("list")
def list_runs(
    status: Annotated[str | None, typer.Option(help="Such as waiting.")] = None,
    session: Annotated[str | None, typer.Option(help="Turns of this conversation.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """The last runs, newest first; those whose callers waited, too."""
    asked = {"status": status, "session_id": session, "limit": limit}
    query = {name: value for name, value in asked.items() if value is not None}
    found = connect(url, token).call("GET", "runs", query=query)["data"]
    _list(found, COLUMNS, _run, as_json, "No run.")


@app.command()
def show(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """How a run stands or went, with its output."""
    _show(connect(url, token).call("GET", "runs", id), as_json)


@app.command()
def start(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An agent, as `model` names it.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is asked.")],
    session: Annotated[str | None, typer.Option(help="It is a turn of it.")] = None,
    priority: Annotated[int, typer.Option(help="From -100 to 100.")] = 0,
    not_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2030-01-01T07:00:00Z.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="By then it has ended, or failed.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be given again.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="As `runs follow` does.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Order a run; prints its id. It goes on without you."""
    given = {"session_id": session, "not_before": not_before, "deadline": deadline}
    body: Json = {
        "model": model,
        "input": text,
        "priority": priority,
        "metadata": dict(map(_pair, metadata or [])),
        **{name: value for name, value in given.items() if value is not None},
    }
    client = connect(url, token)
    run = client.call("POST", "runs", body=body)
    if follow:
        typer.echo(run["id"], err=True)
        follow_run(client, run["id"], as_json)
    else:
        _ordered(run, as_json)


@app.command()
def follow(
    id: Id,
    after: Annotated[int, typer.Option(min=0, help="Behind that event.")] = 0,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print what a run says, as it says it; with --json each event on a line.

    Exit code 0 when it has completed, 1 when it has failed, 3 when it was cancelled.
    """
    follow_run(connect(url, token), id, as_json, after)


@app.command()
def cancel(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """End a run now, wherever it goes on."""
    run = connect(url, token).call("POST", "runs", id, "cancel")
    if as_json:
        output.print_json(run)
    else:
        output.say(f"{id} is {run['status']}.")


@app.command()
def retry(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """The same order as a new run, from the start; prints its id."""
    _ordered(connect(url, token).call("POST", "runs", id, "retry"), as_json)


@app.command()
def resume(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """A new run that goes on where one ended that did not complete; prints its id."""
    _ordered(connect(url, token).call("POST", "runs", id, "resume"), as_json)


@app.command()
def fork(
    id: Id,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    text: Annotated[str | None, typer.Option("--input", help="Another turn.")] = None,
    values: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object: what the state is to hold.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """A new run that begins at a checkpoint of another; prints its id."""
    body: Json = {"checkpoint_id": checkpoint}
    if text is not None:
        body["input"] = text
    if values is not None:
        body["values"] = _object(values)
    _ordered(connect(url, token).call("POST", "runs", id, "fork", body=body), as_json)


@app.command()
def steps(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Its steps so far."""
    found = connect(url, token).call("GET", "runs", id, "steps")["data"]
    _list(found, STEP_COLUMNS, _step, as_json, "No step yet.")


@app.command()
def checkpoints(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """The states between its steps, newest first."""
    found = every(connect(url, token), "runs", id, "checkpoints")
    _list(found, CHECKPOINT_COLUMNS, _checkpoint, as_json, "No checkpoint.")


@app.command("tool-calls")
def tool_calls(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """What its tools were asked, and gave."""
    found = every(connect(url, token), "runs", id, "tool_calls")
    _list(found, CALL_COLUMNS, _call, as_json, "No tool was called.")


def _ordered(run: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(run)
    else:
        output.say(run["id"])


def _show(run: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(run)
    else:
        output.print_pairs(run)


def _list(
    found: list[Json],
    columns: tuple[str, ...],
    row: Callable[[Json], tuple[object, ...]],
    as_json: bool,
    nothing: str,
) -> None:
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(columns, map(row, found))
    else:
        output.say(nothing)


def _run(run: Json) -> tuple[object, ...]:
    names = ("id", "model", "status", "created_at", "ended_at", "attempt", "error_code")
    return tuple(run[name] for name in names)


def _step(step: Json) -> tuple[object, ...]:
    return step["name"], step["status"], step["attempt"], _ms(step), step["id"]


def _call(call: Json) -> tuple[object, ...]:
    names = ("name", "arguments", "status", "output", "attempt")
    return *(call[name] for name in names), _ms(call)


def _checkpoint(made: Json) -> tuple[object, ...]:
    return tuple(made[name] for name in ("id", "step", "source", "created_at", "next"))


def _ms(timed: Json) -> object:
    return None if timed["duration_ms"] is None else round(timed["duration_ms"])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise Failure(f"'{text}' is not NAME=VALUE.", 2)
    return name, value


def _object(text: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Failure(f"'{text}' is no JSON: {error}.", 2) from error
    if not isinstance(found, dict):
        raise Failure(f"'{text}' is no JSON object.", 2)
    return found
