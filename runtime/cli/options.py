"""Options that many commands share, and what becomes of them."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.failures import Failure

if TYPE_CHECKING:
    from runtime.cli.client import Client
    from runtime.infrastructure.settings import Settings

Url = Annotated[
    str | None,
    typer.Option(help="Where the runtime is, instead of RUNTIME_URL.", show_default=False),
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Instead of RUNTIME_TOKEN, which other users of this machine can't see.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def settings(**given: object) -> "Settings":
    """Raises Failure that says which settings are wrong, and never what is in them."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from runtime.infrastructure.settings import Settings, explained

    try:
        named = {name: value for name, value in given.items() if value is not None}
        return Settings(**named)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in explained(error))
        raise Failure(f"The settings are not usable:\n{lines}", 2) from error
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        raise Failure(f"The settings can't be read: {error}", 2) from error


def connect(url: str | None, token: str | None) -> "Client":
    """A token from the settings goes to the address from the settings, and to no other."""
    from runtime.cli.client import Client

    if url:
        return Client(url, token or _first(os.environ.get("RUNTIME_TOKEN", "").split(",")))
    known = settings()
    return Client(known.url or address(known.host, known.port), token or _first(known.tokens))


def address(host: str, port: int) -> str:
    """The URL that reaches a server on `host`; from here, when it listens everywhere."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _first(tokens: "list[str] | tuple[str, ...]") -> str | None:
    return (tokens[0].strip() or None) if tokens else None
