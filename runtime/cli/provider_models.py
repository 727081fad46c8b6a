"""`agent-runtime providers models …`: what is said of single models, over HTTP."""

from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.options import AsJson, Token, Url, connect

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="What a provider's models can do, cost, fall back on.")
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="MODEL", show_default=False)]
COLUMNS = ("Model", "Upstream", "Enabled", "Fallbacks", "Routing", "Can")
CAPABILITIES = ("streaming", "tools", "json_mode", "vision", "embeddings")


@app.command("list")
def list_models(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Those that are registered of a provider."""
    found = connect(url, token).call("GET", "providers", id, "models")["data"]
    if as_json:
        output.print_json(found)
    elif found:
        output.print_table(COLUMNS, map(_row, found))
    else:
        output.say("No model is registered; all can be called by the provider's own names.")


@app.command("set")
def set_model(
    id: Id,
    model: Name,
    upstream: Annotated[
        str | None, typer.Option(help="What the provider calls it.", show_default=False)
    ] = None,
    can: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(CAPABILITIES)}; with 'no-' what it can't do."),
    ] = None,
    context_window: Annotated[int | None, typer.Option(help="Tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of an answer.")] = None,
    fallback: Annotated[
        list[str] | None, typer.Option(help="provider/name, in their order; may be given again.")
    ] = None,
    routing: Annotated[
        str, typer.Option(help="first_healthy, least_latency or weighted.")
    ] = "first_healthy",
    input: Annotated[float | None, typer.Option(help="USD for a million tokens.")] = None,
    output_: Annotated[
        float | None, typer.Option("--output", help="USD for a million tokens.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Register a model, in place of what was registered under its name."""
    if (input is None) != (output_ is None):
        raise Failure("A price has both --input and --output.", 2)
    capabilities: Json = dict(map(_capability, can or ()))
    body = {
        "upstream_name": upstream,
        "capabilities": {
            **capabilities,
            "context_window": context_window,
            "max_tokens": max_tokens,
        },
        "fallbacks": [{"model": each} for each in fallback or ()],
        "routing": routing,
        "price": None if input is None else {"input": input, "output": output_},
    }
    found = connect(url, token).call("PUT", "providers", id, "models", model, body=body)
    if as_json:
        output.print_json(found)
    else:
        output.print_pairs(found)


@app.command()
def remove(id: Id, model: Name, url: Url = None, token: Token = None) -> None:
    """Forget what was said of a model; refused while something names it."""
    connect(url, token).call("DELETE", "providers", id, "models", model)
    output.say(f"{output.harmless(f'{id}/{model}')} is not registered any more.")


@app.command()
def enable(id: Id, model: Name, url: Url = None, token: Token = None) -> None:
    """Put a model back into service."""
    connect(url, token).call("PATCH", "providers", id, "models", model, body={"enabled": True})
    output.say(f"{output.harmless(f'{id}/{model}')} is enabled.")


@app.command()
def disable(id: Id, model: Name, url: Url = None, token: Token = None) -> None:
    """Take a model out of service; its fallbacks step in."""
    connect(url, token).call("PATCH", "providers", id, "models", model, body={"enabled": False})
    output.say(f"{output.harmless(f'{id}/{model}')} is disabled.")


def _capability(text: str) -> tuple[str, bool]:
    name = text.removeprefix("no-").replace("-", "_")
    if name not in CAPABILITIES:
        raise Failure(f"--can takes {', '.join(CAPABILITIES)}, each also with 'no-'.", 2)
    return name, not text.startswith("no-")


def _row(model: Json) -> tuple[object, ...]:
    able = model["capabilities"]
    return (
        model["id"],
        model["upstream_name"],
        model["enabled"],
        [each["model"] for each in model["fallbacks"]],
        model["routing"],
        [name for name in CAPABILITIES if able[name]],
    )
