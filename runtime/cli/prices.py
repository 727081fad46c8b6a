"""`agent-runtime prices …`: what models cost, over HTTP."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, connect

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="What models cost, in USD for a million tokens. MODEL is provider/name; * is anything.",
)
Model = Annotated[str, typer.Argument(metavar="MODEL", show_default=False)]
COLUMNS = ("Model", "Input", "Cached input", "Output", "Updated")


@app.command("list")
def list_prices(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Every price, the last changed first."""
    found = every(connect(url, token), "prices")
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("No price.")


@app.command("set")
def set_price(
    model: Model,
    input: Annotated[float, typer.Option(help="USD for a million tokens.")],
    output_: Annotated[float, typer.Option("--output", help="USD for a million tokens.")],
    cached_input: Annotated[float | None, typer.Option(help="Unset: as other input.")] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Set a price, for the runs that end from now on."""
    body = {"input": input, "output": output_, "cached_input": cached_input}
    price = connect(url, token).call("PUT", "prices", model, body=body)
    output.say(f"{price['model']}: input {price['input']}, output {price['output']} USD.")


@app.command()
def remove(model: Model, url: Url = None, token: Token = None) -> None:
    """Take a price away."""
    connect(url, token).call("DELETE", "prices", model)
    output.say(f"{output.harmless(model)} has no price of its own any more.")


@app.command("import")
def import_prices(
    file: Annotated[
        Path, typer.Argument(help="TOML or JSON: for each model its input, output, cached_input.")
    ],
    url: Url = None,
    token: Token = None,
) -> None:
    """Set many prices; those that the file does not name stay as they are."""
    client, prices = connect(url, token), _content(file)
    for model, price in prices.items():
        try:
            client.call("PUT", "prices", model, body=price)
        except Failure as failure:
            raise Failure(f"{file}, {output.harmless(model)}: {failure}") from failure
    output.say(f"{len(prices)} prices are set.")


def _content(file: Path) -> dict[str, Json]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Failure(f"{file} can't be read: {reason}.") from error
    try:
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise Failure(f"{file} is neither JSON nor TOML, as its name says: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise Failure(f"{file}: for each model there is a table with input and output.")
    return found


def _row(price: Json) -> tuple[object, ...]:
    names = ("model", "input", "cached_input", "output")
    return (*(price[name] for name in names), price["updated_at"][:16].replace("T", " "))
