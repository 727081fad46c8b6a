"""`agent-runtime limits …`: rate limits, budgets, and what was used, over HTTP."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.options import AsJson, Token, Url, connect

if TYPE_CHECKING:
    from runtime.cli.client import Client

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Rate limits and budgets of API keys, projects and agents. An agent's ID may be its slug.",
)
COLUMNS = ("Scope", "Id", "Requests/min", "Tokens/min", "Runs", "Budget", "Spent")
USAGE_COLUMNS = ("Day", "Id", "Runs", "Input", "Output", "USD", "Unpriced tokens")
PAGE = 200


class Scope(StrEnum):
    KEY = "key"
    PROJECT = "project"
    AGENT = "agent"


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
Of = Annotated[Scope, typer.Argument(metavar="SCOPE", help="key, project or agent.")]


@app.command("list")
def list_limits(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Every limit that is set, the last changed first."""
    found = every(connect(url, token), "limits")
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("No limit.")


@app.command()
def show(scope: Of, id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """One key's, project's or agent's limits, and what of its budget is spent."""
    _show(connect(url, token).call("GET", "limits", scope, id), as_json)


@app.command("set")
def set_limits(
    scope: Of,
    id: Id,
    requests: Annotated[int | None, typer.Option(help="A minute.")] = None,
    tokens: Annotated[int | None, typer.Option(help="A minute.")] = None,
    runs: Annotated[int | None, typer.Option(help="At once.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="In each period.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="In each period.")] = None,
    period: Annotated[Period, typer.Option(help="Of the budget, in UTC.")] = Period.MONTH,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Set limits, in place of all that were set before."""
    budget = {"tokens": budget_tokens, "cost_usd": budget_usd, "period": period.value}
    body: Json = {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "concurrent_runs": runs,
        "budget": None if budget_tokens is None and budget_usd is None else budget,
    }
    _show(connect(url, token).call("PUT", "limits", scope, id, body=body), as_json)


@app.command()
def remove(scope: Of, id: Id, url: Url = None, token: Token = None) -> None:
    """Back to what the settings say of everybody."""
    connect(url, token).call("DELETE", "limits", scope, id)
    output.say(f"No limit is set for the {scope} {output.harmless(id)} any more.")


@app.command()
def usage(
    by: Annotated[Scope, typer.Option(help="key, project or agent.")] = Scope.PROJECT,
    since: Annotated[str | None, typer.Option(help="YYYY-MM-DD, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="YYYY-MM-DD, UTC, included.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Tokens and cost by day, of the last thirty days unless others are asked for."""
    asked = {"by": by.value, "since": since, "until": until}
    query = {name: value for name, value in asked.items() if value}
    days = connect(url, token).call("GET", "usage", query=query)["data"]
    if as_json:
        output.print_json(days)
    elif days:
        output.print_table(USAGE_COLUMNS, map(_day, days))
    else:
        output.say("Nothing was used.")


def every(client: "Client", *path: str) -> list[Json]:
    """Of a paged list."""
    found: list[Json] = []
    query: dict[str, str | int] = {"limit": PAGE}
    while True:
        page = client.call("GET", *path, query=query)
        found += page["data"]
        if not page["next_cursor"]:
            return found
        query["after"] = page["next_cursor"]


def _show(limits: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(limits)
    else:
        output.print_pairs(limits)


def _row(limits: Json) -> tuple[object, ...]:
    budget = limits["budget"] or {}
    rates = ("requests_per_minute", "tokens_per_minute", "concurrent_runs")
    return (
        limits["scope"],
        limits["id"],
        *(limits[name] for name in rates),
        f"{_amount(budget, '')} a {budget['period']}" if budget else None,
        _amount(budget, "spent_") if budget else None,
    )


def _amount(budget: Json, kind: str) -> str:
    tokens, usd = budget[f"{kind}tokens"], budget[f"{kind}cost_usd"]
    parts = [f"{tokens} tokens"] if budget["tokens"] is not None else []
    return ", ".join(parts + ([f"{usd} USD"] if budget["cost_usd"] is not None else []))


def _day(used: Json) -> tuple[object, ...]:
    names = ("day", "id", "runs", "input_tokens", "output_tokens", "cost_usd", "unpriced_tokens")
    return tuple(used[name] for name in names)
