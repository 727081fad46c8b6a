"""`agent-runtime templates …`"""

from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.options import AsJson, Token, Url, connect, settings

app = typer.Typer(no_args_is_help=True, help="Look at templates, and begin one of your own.")


@app.command("list")
def list_templates(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Every installed version of every template, and the files that do not load."""
    found = connect(url, token).call("GET", "templates")
    if as_json:
        output.print_json(found)
        return
    columns = ("Template", "Version", "Name", "Type", "Framework", "From")
    keys = ("template_id", "version", "template_name", "agent_type", "framework", "source")
    output.print_table(columns, ([each[key] for key in keys] for each in found["data"]))
    for problem in found["errors"]:
        serving = ", ".join(problem["serving"])
        still = f" Still in use: {serving}." if serving else ""
        text = f"{problem['source']} does not load: {problem['error']}.{still}"
        typer.echo(f"Warning: {output.harmless(text)}", err=True)


@app.command("show")
def show_template(
    template_id: Annotated[str, typer.Argument(metavar="ID")],
    version: Annotated[str | None, typer.Option(help="Such as 1.0.0; unset: the newest.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """A template's blanks: what `template_config` may hold."""
    path = ["templates", template_id, *([version] if version else [])]
    found = connect(url, token).call("GET", *path)
    if as_json:
        output.print_json(found)
        return
    output.say(
        output.harmless(f"{found['template_id']}@{found['version']}  {found['description']}")
    )
    rows = [row for section in found["sections"] for row in _rows(section["fields"], "")]
    output.print_table(("Field", "Takes", "Default", "Meaning"), rows)


@app.command("new")
def new_template(
    name: Annotated[str, typer.Argument(help="For people, such as 'Travel guide'.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Instead of the first of RUNTIME_TEMPLATE_DIRS, or ./templates."
        ),
    ] = None,
) -> None:
    """Write a LangGraph template that works, to change into what you need."""
    from runtime.cli.scaffold import Scaffold

    watched = settings().template_dirs
    folder = folder or (watched[0] if watched else Path("templates"))
    scaffold = Scaffold.of(name)
    path = scaffold.write(folder)
    output.say(f"{path} holds the template '{scaffold.template_id}'.")
    if folder.resolve() in [each.resolve() for each in watched]:
        output.say("A runtime that is running has it within a second, after every edit too. Next:")
    else:
        output.say("Next:")
        output.say(f"  RUNTIME_TEMPLATE_DIRS={folder} agent-runtime serve")
    output.say(f"  agent-runtime templates show {scaffold.template_id}")
    agent = f'{{"name": "{scaffold.template_id}", "template_id": "{scaffold.template_id}"}}'
    output.say(f"  echo '{agent}' | agent-runtime agents create - --publish")
    output.say(f"  agent-runtime agents chat {scaffold.template_id} Hello")


def _rows(fields: list[dict[str, Any]], prefix: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for field in fields:
        name = f"{prefix}{field['id']}"
        default = "(required)" if field["validation"]["required"] else field["defaultValue"]
        rows.append((name, _takes(field), default, field["description"]))
        rows += _rows(field["fields"], f"{name}.")
    return rows


def _takes(field: dict[str, Any]) -> str:
    rules = field["validation"]
    if "options" in rules:
        return " | ".join(map(str, rules["options"]))
    of = "" if field["type"] == "number" else {"list": " items"}.get(field["type"], " characters")
    bounds = [
        f"{word} {rules[bound]}{of}"
        for bound, word in (("min", "at least"), ("max", "at most"))
        if rules.get(bound) is not None
    ]
    return ", ".join([field["type"], *bounds])
