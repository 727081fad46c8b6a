from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.keys import CreateKey, RevokeKey
from runtime.application.handlers.keys import CreateKeyHandler, RevokeKeyHandler
from runtime.application.queries.keys import KeyQueries
from runtime.domain.entities.keys import ApiKey
from runtime.domain.value_objects.identity import KeyScope, Role
from runtime.domain.value_objects.ids import KeyId, UserId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of

router = APIRouter(
    prefix="/v1/keys", tags=["Keys"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
EXAMPLE: dict[str, Any] = {"name": "CI", "roles": ["editor"], "scopes": ["agents:write"]}
TEN_YEARS_S = 10 * 365 * 24 * 3_600


class KeyCreate(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    name: str = Field(min_length=1, max_length=128)
    user_id: str | None = Field(
        default=None, min_length=1, max_length=128, description="Whose it is; unset: the caller's."
    )
    roles: list[Literal["viewer", "editor", "reviewer", "admin"]] = Field(
        default=["viewer"], min_length=1, max_length=4
    )
    scopes: (
        list[
            Literal[
                "models",
                "agents:read",
                "agents:write",
                "review",
                "runs:read",
                "keys",
                "providers",
                "webhooks",
                "system",
            ]
        ]
        | None
    ) = Field(default=None, min_length=1, max_length=9, description="Unset: all the roles allow.")
    expires_in_s: int | None = Field(default=None, ge=1, le=TEN_YEARS_S)


class KeyOut(BaseModel):
    id: str
    prefix: str = Field(description="The key begins with `ar_` and this.")
    name: str
    user_id: str
    roles: list[str]
    scopes: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To about ten minutes.")

    @classmethod
    def fields(cls, key: ApiKey) -> dict[str, Any]:
        return {
            "id": key.id,
            "prefix": key.prefix,
            "name": key.name,
            "user_id": key.owner_id,
            "roles": sorted(key.roles),
            "scopes": None if key.scopes is None else sorted(key.scopes),
            "created_at": key.created_at,
            "created_by": key.created_by,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
            "last_used_at": key.last_used_at,
        }

    @classmethod
    def of(cls, key: ApiKey) -> "KeyOut":
        return cls(**cls.fields(key))


class KeyCreated(KeyOut):
    key: str = Field(description="Shown this once.")


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyOut]
    has_more: bool
    next_cursor: str | None


@router.post("", status_code=201, responses=errors_of(413))
async def create_key(
    body: KeyCreate,
    caller: Caller,
    handle: Annotated[CreateKeyHandler, provided(lambda c: c.create_key())],
) -> KeyCreated:
    """Make an API key. The answer is the only place where it is ever shown."""
    lifetime = body.expires_in_s
    created = await handle(
        CreateKey(
            actor=caller,
            name=body.name,
            owner_id=UserId(body.user_id) if body.user_id is not None else None,
            roles=frozenset(map(Role, body.roles)),
            scopes=None if body.scopes is None else frozenset(map(KeyScope, body.scopes)),
            lifetime=timedelta(seconds=lifetime) if lifetime else None,
        )
    )
    return KeyCreated(**KeyOut.fields(created.key), key=created.text.text)


@router.get("")
async def list_keys(
    caller: Caller,
    queries: Annotated[KeyQueries, provided(lambda c: c.key_queries())],
    limit: Limit = 50,
    after: After = None,
) -> KeyList:
    """Keys without their secrets, newest first: an admin sees the project's, others their own."""
    page = await queries.page(caller, limit=limit, after=after)
    return KeyList(
        data=[KeyOut.of(key) for key in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.delete("/{id}")
async def revoke_key(
    id: str,
    caller: Caller,
    handle: Annotated[RevokeKeyHandler, provided(lambda c: c.revoke_key())],
) -> KeyOut:
    """End a key for good. Every replica refuses it within 5 s."""
    return KeyOut.of(await handle(RevokeKey(actor=caller, id=KeyId(id))))
