"""`agent-runtime`. Commands import what they need when they run, so that `--help` is quick."""

import sys
from typing import Annotated

import typer

from runtime import __version__
from runtime.cli import (
    agents,
    approvals,
    database,
    keys,
    limits,
    memories,
    prices,
    providers,
    runs,
    schedules,
    secrets,
    templates,
    webhooks,
)
from runtime.cli.failures import Failure
from runtime.cli.options import AsJson

app = typer.Typer(
    name="agent-runtime",
    help="Reviewed AI agents in production, called as ordinary OpenAI models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(agents.app, name="agents")
app.add_typer(runs.app, name="runs")
app.add_typer(approvals.app, name="approvals")
app.add_typer(templates.app, name="templates")
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.add_typer(prices.app, name="prices")
app.add_typer(providers.app, name="providers")
app.add_typer(memories.app, name="memories")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(schedules.app, name="schedules")
app.add_typer(database.app, name="db")
app.add_typer(secrets.app, name="secrets")


def main() -> None:
    try:
        app()
    except Failure as failure:
        typer.echo(f"Error: {failure}", err=True)
        sys.exit(failure.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agent-runtime {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None: ...


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Instead of RUNTIME_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Instead of RUNTIME_PORT; 0 takes any free one.")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            help="Instead of RUNTIME_ROLE. api: leaves durable runs to other processes; worker: "
            "carries them out, and serves health and metrics alone; all: both."
        ),
    ] = None,
) -> None:
    """Start the runtime. Prints its address on stdout when it is ready, and logs to stderr."""
    from runtime.cli import server
    from runtime.cli.options import settings

    server.serve(settings(host=host, port=port, role=role))


@app.command()
def config(as_json: AsJson = False) -> None:
    """Show the effective settings, secrets masked, under their environment variables' names."""
    import os

    from runtime.cli import output
    from runtime.cli.options import settings
    from runtime.infrastructure.settings import misspelt

    shown = settings().masked()
    for warning in misspelt(os.environ):
        typer.echo(f"Warning: {warning}", err=True)
    if as_json or not sys.stdout.isatty():
        output.print_json(shown)
    else:
        output.print_pairs(shown)


if __name__ == "__main__":
    main()
