"""`agent-runtime secrets …`"""

import typer

from runtime.cli import output
from runtime.cli.database import on_database
from runtime.cli.failures import Failure
from runtime.cli.options import settings

app = typer.Typer(no_args_is_help=True, help="What is stored encrypted.")


@app.callback()
def _root() -> None: ...


@app.command("rotate")
def rotate_secrets() -> None:
    """Encrypt every stored secret again, with RUNTIME_SECRET_KEY; safe beside running replicas.

    RUNTIME_SECRET_KEY_PREVIOUS opens the old ones. Run it again after an interruption: what is
    done is not done twice.
    """
    from runtime.domain.errors import InvalidValue
    from runtime.infrastructure.repositories.secrets import rotate
    from runtime.infrastructure.secrets import SecretBox, load_secret_key, previous_keys

    known = settings()
    try:
        box = SecretBox(load_secret_key(known), previous_keys(known))
    except InvalidValue as error:
        raise Failure(str(error), 2) from error
    done = on_database(lambda engine: rotate(engine, box))
    output.say(f"Encrypted again: {done.renewed}. Already under this key: {done.current}.")
    if done.unreadable:
        raise Failure(
            f"{done.unreadable} can't be opened with any of the keys; name the one they were "
            "stored under in RUNTIME_SECRET_KEY_PREVIOUS, or write these secrets again."
        )
