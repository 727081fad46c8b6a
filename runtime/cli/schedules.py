"""`agent-runtime schedules …`: runs at set times, over HTTP."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, Yes, connect

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="Have agents run at set times.")
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
COLUMNS = ("Id", "Name", "Agent", "When", "Next", "State", "Last error")
TICK_COLUMNS = ("Tick", "Status", "Run", "Run status", "Error")


class Backfill(StrEnum):
    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    ALLOW = "allow"
    SKIP = "skip"


@app.command("list")
def list_schedules(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Every schedule that you see, newest first."""
    found = every(connect(url, token), "schedules")
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("No schedule.")


@app.command()
def show(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """One schedule with its next five ticks."""
    _show(connect(url, token).call("GET", "schedules", id), as_json)


@app.command()
def runs(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """What became of its ticks, the last 50."""
    found = connect(url, token).call("GET", "schedules", id, "runs")["data"]
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(TICK_COLUMNS, map(_tick, found))
    else:
        output.say("No tick yet.")


@app.command()
def create(
    model: Annotated[str, typer.Argument(metavar="AGENT", help="As `model` names it.")],
    text: Annotated[str, typer.Argument(metavar="INPUT", help="What each run is asked.")],
    cron: Annotated[
        str | None, typer.Option(help="Such as '0 7 * * mon-fri', or @daily.", show_default=False)
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of --cron; unset: UTC.", show_default=False)
    ] = None,
    every_s: Annotated[
        int | None,
        typer.Option("--every-s", help="Instead of --cron: an interval.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Unset: the agent's.", show_default=False)
    ] = None,
    backfill: Annotated[Backfill, typer.Option(help="Of missed ticks.")] = Backfill.SKIP,
    overlap: Annotated[Overlap, typer.Option(help="While the run before goes on.")] = Overlap.ALLOW,
    session: Annotated[
        str | None, typer.Option(help="Each run is a turn of it.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Have an agent run at set times, in your name."""
    if (cron is None) == (every_s is None):
        raise Failure("Say when: by --cron or by --every-s.", 2)
    given = {"cron": cron, "timezone": timezone, "every_s": every_s, "session_id": session}
    body: Json = {
        "name": name or model,
        "model": model,
        "input": text,
        "backfill": backfill.value,
        "overlap": overlap.value,
        **{field: value for field, value in given.items() if value is not None},
    }
    _show(connect(url, token).call("POST", "schedules", body=body), as_json)


@app.command()
def pause(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Keep no tick until it is resumed."""
    _show(connect(url, token).call("POST", "schedules", id, "pause"), as_json)


@app.command()
def resume(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Go on with the next tick."""
    _show(connect(url, token).call("POST", "schedules", id, "resume"), as_json)


@app.command()
def run(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """One run now, out of turn."""
    begun = connect(url, token).call("POST", "schedules", id, "run")
    if as_json:
        output.print_json(begun)
    else:
        output.say(begun["run_id"])


@app.command()
def delete(id: Id, yes: Yes = False, url: Url = None, token: Token = None) -> None:
    """Begin no further run; those that were begun go on."""
    client = connect(url, token)
    if not yes:
        typer.confirm(f"Delete the schedule {output.harmless(id)}?", abort=True)
    client.call("DELETE", "schedules", id)
    output.say(f"{output.harmless(id)} is deleted.")


def _show(schedule: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(schedule)
    else:
        output.print_pairs(schedule)


def _row(schedule: Json) -> list[object]:
    problem = schedule["last_error"]
    return [
        schedule["id"],
        schedule["name"],
        schedule["model"],
        f"{schedule['cron']} {schedule['timezone']}"
        if schedule["cron"]
        else f"every {schedule['every_s']} s",
        schedule["next_at"] or "",
        "on" if schedule["enabled"] else "paused",
        problem["message"] if problem else "",
    ]


def _tick(tick: Json) -> list[object]:
    problem = tick["error"]
    return [
        tick["tick"],
        "by hand" if tick["manual"] else tick["status"],
        tick["run_id"] or "",
        tick["run_status"] or "",
        problem["message"] if problem else "",
    ]
