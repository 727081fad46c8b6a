"""`agent-runtime providers …`: where models are served, over HTTP."""

import sys
from typing import Annotated, Any

import typer

from runtime.cli import output, provider_models
from runtime.cli.failures import Failure
from runtime.cli.limits import every
from runtime.cli.options import AsJson, Token, Url, Yes, connect

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Where models are served: OpenAI, Anthropic, Azure, Hugging Face, your own.",
)
app.add_typer(provider_models.app, name="models")
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
BaseUrl = Annotated[str | None, typer.Option(help="Unset: the type's own.", show_default=False)]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The runtime's variable that has the key.", show_default=False
    ),
]
AskKey = Annotated[bool, typer.Option("--api-key", help="Ask for the key, or read it from a pipe.")]
DefaultModel = Annotated[
    str | None, typer.Option(help="Meant by the id alone.", show_default=False)
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="The type's own; may be given again.", show_default=False
    ),
]
COLUMNS = ("Id", "Type", "Of", "Key", "Default model", "Models", "Enabled")
HEALTH_COLUMNS = ("Provider", "Type", "Status", "ms", "Error")
TYPE_COLUMNS = ("Type", "Base URL", "Default model", "Options", "Needs a key")


@app.command("list")
def list_providers(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Every provider, the operator's first."""
    found = every(connect(url, token), "providers")
    if as_json:
        output.print_json(found)
    else:
        output.print_table(COLUMNS, map(_row, found))


@app.command()
def types(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """What --type may be."""
    found = connect(url, token).call("GET", "providers", "types")["data"]
    if as_json:
        output.print_json(found)
    else:
        names = ("type", "default_base_url", "default_model", "options", "needs_key")
        output.print_table(TYPE_COLUMNS, ([each[name] for name in names] for each in found))


@app.command()
def show(id: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """One provider with its models; its key is never shown."""
    _show(connect(url, token).call("GET", "providers", id), as_json)


@app.command()
def add(
    id: Id,
    type: Annotated[str, typer.Option(help="See `providers types`.")],
    base_url: BaseUrl = None,
    api_key: AskKey = False,
    api_key_env: KeyEnv = None,
    default_model: DefaultModel = None,
    option: Option = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Register a provider. Agents name its models ID/NAME."""
    body = _fields(base_url, api_key_env, default_model, option)
    if api_key:
        body["api_key"] = _key()
    client = connect(url, token)
    _show(client.call("POST", "providers", body={"id": id, "type": type, **body}), as_json)


@app.command("set")
def set_provider(
    id: Id,
    type: Annotated[str | None, typer.Option(show_default=False)] = None,
    base_url: BaseUrl = None,
    api_key: AskKey = False,
    api_key_env: KeyEnv = None,
    default_model: DefaultModel = None,
    option: Option = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. A stored key does not go along to another address."""
    body = _fields(base_url, api_key_env, default_model, option)
    if type:
        body["type"] = type
    if api_key:
        body["api_key"] = _key()
    if not body:
        raise Failure("Say what to change; `--help` lists the options.", 2)
    _show(connect(url, token).call("PATCH", "providers", id, body=body), as_json)


@app.command()
def remove(id: Id, yes: Yes = False, url: Url = None, token: Token = None) -> None:
    """Take a provider and its key away; refused while something uses it."""
    client = connect(url, token)
    if not yes:
        typer.confirm(f"Remove the provider {output.harmless(id)} and its key?", abort=True)
    client.call("DELETE", "providers", id)
    output.say(f"{output.harmless(id)} is removed.")


@app.command("test")
def try_provider(
    id: Id,
    model: Annotated[str | None, typer.Option(help="Unset: its default.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """One short call, which shows whether address and key are right."""
    body = {"model": model} if model else {}
    found = connect(url, token).call("POST", "providers", id, "test", body=body)
    if as_json:
        output.print_json(found)
    elif found["success"]:
        output.say(f"{found['provider']}/{found['model']} answered in {found['latency_ms']} ms.")
    if not found["success"]:
        error = found["error"]
        raise Failure(f"{output.harmless(error['message'])} ({error['code']})")


@app.command()
def health(
    probe: Annotated[bool, typer.Option("--probe", help="Make a test call of each.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """How every provider does."""
    client = connect(url, token)
    found = client.call("GET", "providers", "health", query={"probe": str(probe).lower()})["data"]
    if as_json:
        output.print_json(found)
    else:
        output.print_table(HEALTH_COLUMNS, map(_condition, found))


@app.command()
def enable(id: Id, url: Url = None, token: Token = None) -> None:
    """Put a provider back into service."""
    connect(url, token).call("POST", "providers", id, "enable")
    output.say(f"{output.harmless(id)} is enabled.")


@app.command()
def disable(id: Id, url: Url = None, token: Token = None) -> None:
    """Take a provider out of service; fallbacks step in."""
    connect(url, token).call("POST", "providers", id, "disable")
    output.say(f"{output.harmless(id)} is disabled.")


def _fields(
    base_url: str | None,
    api_key_env: str | None,
    default_model: str | None,
    option: list[str] | None,
) -> Json:
    given = {"base_url": base_url, "api_key_env": api_key_env, "default_model": default_model}
    body: Json = {name: value for name, value in given.items() if value is not None}
    if option:
        body["options"] = dict(map(_option, option))
    return body


def _option(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Failure("An option is written NAME=VALUE.", 2)
    found = yaml.safe_load(value)
    return name, found if isinstance(found, bool | int | float) else value


def _key() -> str:
    """Nowhere on the command line, where other users of the machine could read it."""
    if sys.stdin.isatty():
        return str(typer.prompt("API key", hide_input=True))
    key = sys.stdin.readline().strip()
    if not key:
        raise Failure("--api-key reads the key from stdin, and there is none.", 2)
    return key


def _show(provider: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(provider)
    else:
        models = [model["id"] for model in provider["models"]]
        output.print_pairs({**provider, "key": _key_of(provider), "models": models})


def _key_of(provider: Json) -> str | None:
    key = provider["key"]
    return str(key["variable"] or key["source"]) if key else None


def _row(provider: Json) -> tuple[object, ...]:
    return (
        provider["id"],
        provider["type"],
        provider["managed_by"],
        _key_of(provider),
        provider["default_model"],
        [model["name"] for model in provider["models"]],
        provider["enabled"],
    )


def _condition(each: Json) -> tuple[object, ...]:
    error = each["error"]
    return (
        each["provider"],
        each["type"],
        each["status"],
        each["latency_ms"],
        error and f"{error['message']} ({error['code']})",
    )
