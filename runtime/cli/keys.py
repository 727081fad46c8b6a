"""`agent-runtime keys …`: on the database itself, so that the first key needs no server."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from runtime.cli import output
from runtime.cli.database import unusable
from runtime.cli.failures import Failure
from runtime.cli.options import AsJson, settings

if TYPE_CHECKING:
    from runtime.domain.entities.keys import ApiKey
    from runtime.domain.unit_of_work import UnitOfWorkFactory
    from runtime.domain.value_objects.identity import Principal
    from runtime.infrastructure.settings import Settings

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="API keys, made on this machine's database.")

KEYS_SINCE = "0002"
"""The revision of the schema that brought them."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class RoleName(StrEnum):
    VIEWER = "viewer"
    EDITOR = "editor"
    REVIEWER = "reviewer"
    ADMIN = "admin"


Project = Annotated[str, typer.Option(help="The project that the key is for.")]


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for, or whose it is.")],
    role: Annotated[list[RoleName], typer.Option(help="May be given several times.")] = [  # noqa: B006
        RoleName.VIEWER
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="Narrows the key to: models, agents:read, agents:write, review, runs:read, keys, "
            "providers, webhooks, system. May be given several times.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[str, typer.Option(help="Whom it stands for.")] = "local",
    project: Project = "default",
    expires: Annotated[
        str | None, typer.Option(help="After 90m, 12h or 30d; unset: never.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from runtime.application.commands.keys import CreateKey
    from runtime.application.handlers.keys import CreateKeyHandler
    from runtime.domain.value_objects.identity import Role
    from runtime.domain.value_objects.ids import UserId
    from runtime.infrastructure.secrets import load_secret_key

    command = CreateKey(
        actor=_operator(project),
        name=name,
        owner_id=UserId(user),
        roles=frozenset(Role(each.value) for each in role),
        scopes=_scopes(scope),
        lifetime=_lifetime(expires) if expires else None,
    )
    known = settings()
    created = _on_keys(
        known, lambda uow: CreateKeyHandler(uow, _now, load_secret_key(known))(command)
    )
    if as_json:
        output.print_json({**_shown(created.key), "key": created.text.text})
        return
    typer.echo("Keep it now; it is not shown again:", err=True)
    output.say(created.text.text)


@app.command("list")
def list_keys(project: Project = "default", as_json: AsJson = False) -> None:
    """Every key of the project, newest first, the secrets not among it."""
    from runtime.application.queries.keys import KeyQueries

    async def every(uow: "UnitOfWorkFactory") -> "list[ApiKey]":
        found: list[ApiKey] = []
        after = None
        while True:
            page = await KeyQueries(uow).page(_operator(project), limit=200, after=after)
            found += page.items
            after = page.next_cursor
            if after is None:
                return found

    keys = [_shown(key) for key in _on_keys(settings(), every)]
    if as_json or not sys.stdout.isatty():
        output.print_json(keys)
        return
    columns = ("id", "prefix", "name", "user_id", "roles", "scopes", "state", "last_used_at")
    output.print_table(columns, ([key[column] for column in columns] for key in keys))


@app.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    project: Project = "default",
) -> None:
    """End a key for good; running servers refuse it within 5 s."""
    from runtime.application.commands.keys import RevokeKey
    from runtime.application.handlers.keys import RevokeKeyHandler
    from runtime.domain.value_objects.ids import KeyId

    command = RevokeKey(actor=_operator(project), id=KeyId(id))
    key = _on_keys(settings(), lambda uow: RevokeKeyHandler(uow, _now)(command))
    output.say(f"{key.id} ({output.harmless(key.name)}) is revoked.")


def any_live_key(known: "Settings") -> bool:
    """In any project. Leaves a database that is not there yet unmade."""
    from runtime.domain.errors import DatabaseUnavailable
    from runtime.infrastructure.database import create_engine, current_revision
    from runtime.infrastructure.repositories.keys import SqlKeyRing

    async def found() -> bool:
        engine = create_engine(known.database)
        try:
            if await current_revision(engine) < KEYS_SINCE:
                return False
            return await SqlKeyRing(engine).any_live(_now())
        except DatabaseUnavailable as error:
            raise unusable(error) from error
        finally:
            await engine.dispose()

    return asyncio.run(found())


def _on_keys(known: "Settings", work: "Callable[[UnitOfWorkFactory], Awaitable[T]]") -> T:
    """Raises Failure for whatever is refused."""
    from functools import partial

    from runtime.domain.errors import DatabaseUnavailable, DomainError
    from runtime.infrastructure.database import create_engine, upgrade
    from runtime.infrastructure.events import EventBus
    from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work

    async def done() -> T:
        engine = create_engine(known.database)
        try:
            await upgrade(engine)
            return await work(partial(sql_unit_of_work, engine, EventBus().publish))
        except DatabaseUnavailable as error:
            raise unusable(error) from error
        except DomainError as error:
            raise Failure(str(error)) from error
        finally:
            await engine.dispose()

    return asyncio.run(done())


def _operator(project: str) -> "Principal":
    """Whoever can write to the database may make any key for it."""
    from dataclasses import replace

    from runtime.domain.value_objects.identity import LOCAL_ADMIN
    from runtime.domain.value_objects.ids import ProjectId

    return replace(LOCAL_ADMIN, project_id=ProjectId(project))


def _scopes(named: list[str] | None) -> Any:  # noqa: ANN401 - the type would be imported too soon
    from runtime.domain.value_objects.identity import KeyScope

    try:
        return frozenset(map(KeyScope, named)) if named else None
    except ValueError as error:
        known = ", ".join(KeyScope)
        raise Failure(f"A scope is one of {known}.", 2) from error


def _lifetime(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if not match:
        raise Failure(f"'{text}' is no time: 90m, 12h and 30d are.", 2)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _now() -> datetime:
    return datetime.now(UTC)


def _shown(key: "ApiKey") -> dict[str, Any]:
    def text(at: datetime | None) -> str | None:
        return at.isoformat() if at else None

    live = "live" if key.live_at(_now()) else "expired"
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "user_id": key.owner_id,
        "project_id": key.project_id,
        "roles": sorted(key.roles),
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "state": "revoked" if key.revoked_at else live,
        "created_at": text(key.created_at),
        "expires_at": text(key.expires_at),
        "revoked_at": text(key.revoked_at),
        "last_used_at": text(key.last_used_at),
    }
