"""`agent-runtime db …`"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.options import settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="The database's schema. `serve` upgrades it too.")


@app.command("upgrade")
def upgrade_schema() -> None:
    """Bring the schema to what this version needs; safe beside running replicas."""
    from runtime.infrastructure.database import newest_revision, upgrade

    on_database(upgrade)
    output.say(f"The schema is at {newest_revision()}.")


@app.command("current")
def current_schema() -> None:
    """Say which schema the database has, and which one this version needs."""
    from runtime.infrastructure.database import current_revision, newest_revision

    found, needed = on_database(current_revision), newest_revision()
    hint = "" if found >= needed else " Run `agent-runtime db upgrade`."
    output.say(f"The schema is at {found or 'nothing yet'}; {needed} is needed.{hint}")


def on_database(work: "Callable[[AsyncEngine], Awaitable[T]]") -> T:
    import asyncio

    from runtime.domain.errors import DatabaseUnavailable
    from runtime.infrastructure.database import create_engine

    async def done() -> T:
        engine = create_engine(settings().database)
        try:
            return await work(engine)
        except DatabaseUnavailable as error:
            raise unusable(error) from error
        finally:
            await engine.dispose()

    return asyncio.run(done())


def unusable(error: BaseException) -> Failure:
    """With the driver's own words: here an operator is looking, not a caller."""
    cause = error.__cause__
    reason = str(getattr(cause, "orig", None) or cause or error).strip()
    return Failure(f"The database can't be used: {reason}")
