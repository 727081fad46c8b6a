from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from runtime.application.commands.memories import ChangeMemory, Forget, ForgetAll, Remember
from runtime.application.handlers.memories import (
    ChangeMemoryHandler,
    ForgetAllHandler,
    ForgetHandler,
    RememberHandler,
)
from runtime.application.queries.memories import MemoryQueries, MemoryQuestion
from runtime.domain.entities.memories import MAX_KEY, MAX_TAG, MAX_TAGS, MAX_TEXT, Fact, MemoryScope
from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import MemoryId, UserId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of

router = APIRouter(
    prefix="/v1/memories", tags=["Memories"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
EXAMPLE: dict[str, Any] = {"text": "Prefers short answers.", "key": "style", "tags": ["habit"]}
MAX_AGENT = 128
MAX_QUERY = 500
HUNDRED_YEARS_S = 100 * 365 * 24 * 3_600

OfUser = Annotated[
    str | None, Query(max_length=128, description="Whose; only an admin may name others.")
]
Queries = Annotated[MemoryQueries, provided(lambda c: c.memory_queries())]
Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG)]
IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(alias="If-Match", description="The ETag of the state you read; a newer one → 412."),
]


class MemoryPatch(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"text": "Likes it long."}]}
    )

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    value: Any = Field(default=None, description="JSON beside the text, 32 KB at most.")
    tags: list[Tag] | None = Field(default=None, max_length=MAX_TAGS)
    expires_in_s: int | None = Field(
        default=None, ge=1, le=HUNDRED_YEARS_S, description="Null: it stays."
    )

    @property
    def lifetime(self) -> timedelta | None:
        return timedelta(seconds=self.expires_in_s) if self.expires_in_s else None

    def fields(self) -> dict[str, object]:
        """What was sent; null for what must be there stands for nothing."""
        found: dict[str, object] = {}
        if self.text is not None:
            found["text"] = self.text
        if self.tags is not None:
            found["tags"] = self.tags
        if "value" in self.model_fields_set:
            found["value"] = self.value
        if "expires_in_s" in self.model_fields_set:
            found["lifetime"] = self.lifetime
        return found


class MemoryCreate(MemoryPatch):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_KEY,
        description="The next memory under it, in the same scope, takes this one's place.",
    )
    scope: Literal["user", "agent", "shared"] = Field(
        default="user", description="Who knows it: every agent of yours, one agent, everybody."
    )
    agent: str | None = Field(
        default=None,
        max_length=MAX_AGENT,
        description="As in `model`: needed for the scope `agent`; with `shared`, this one only.",
    )
    user_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Whose it is; unset: the caller's. Only an admin may name others.",
    )


class MemoryOut(BaseModel):
    id: str
    owner_id: str
    scope: MemoryScope
    agent_line_id: str | None = Field(description="None: every agent knows it.")
    namespace: list[str] = Field(description="Of a graph's store; else empty.")
    key: str | None
    text: str
    value: Any
    tags: list[str]
    run_id: str | None = Field(description="The run that last wrote it; None: a person did.")
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    score: float | None = Field(
        default=None, description="Of a search: how well it fits, beside the others found."
    )

    @classmethod
    def of(cls, fact: Fact, score: float | None = None) -> "MemoryOut":
        return cls(
            id=fact.id,
            owner_id=fact.owner_id,
            scope=fact.scope,
            agent_line_id=fact.line_id,
            namespace=fact.namespace.split(".") if fact.namespace else [],
            key=fact.key,
            text=fact.text,
            value=fact.value,
            tags=list(fact.tags),
            run_id=fact.run_id,
            created_at=fact.created_at,
            updated_at=fact.updated_at,
            expires_at=fact.expires_at,
            score=score,
        )


class MemoryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[MemoryOut]
    has_more: bool
    next_cursor: str | None


class MemoryGone(BaseModel):
    id: str
    deleted: Literal[True] = True


class MemoriesGone(BaseModel):
    deleted: int = Field(description="How many there were.")


@router.post("", status_code=201, responses=errors_of(409, 413))
async def remember(
    body: MemoryCreate,
    response: Response,
    caller: Caller,
    handle: Annotated[RememberHandler, provided(lambda c: c.remember())],
) -> MemoryOut:
    """Have something known in later runs. Under a `key` it takes the earlier one's place; without
    one the same text is not stored twice. The scope `shared` is for editors."""
    command = Remember(
        caller=caller,
        user=_user(body.user_id),
        scope=MemoryScope(body.scope),
        agent=body.agent,
        key=body.key,
        text=body.text,
        value=body.value,
        tags=body.tags or (),
        lifetime=body.lifetime,
    )
    fact = await handle(command)
    response.headers["Location"] = f"/v1/memories/{fact.id}"
    return _shown(fact, response)


@router.get("")
async def list_memories(
    caller: Caller,
    queries: Queries,
    query: Annotated[
        str | None, Query(max_length=MAX_QUERY, description="Words; what fits best comes first.")
    ] = None,
    agent: Annotated[
        str | None, Query(max_length=MAX_AGENT, description="As in `model`: what it knows.")
    ] = None,
    scope: Annotated[MemoryScope | None, Query()] = None,
    tag: Annotated[str | None, Query(max_length=MAX_TAG)] = None,
    user_id: OfUser = None,
    limit: Limit = 50,
    after: After = None,
) -> MemoryList:
    """What is known of you and what the project shares, newest first; an admin sees everybody's.
    With `query` the best `limit` of it, on one page."""
    asked = MemoryQuestion(user=_user(user_id), scope=scope, agent=agent, tag=tag)
    if query is None:
        page = await queries.page(caller, asked, limit=limit, after=after)
        return MemoryList(
            data=[MemoryOut.of(fact) for fact in page.items],
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
    if after is not None:
        raise InvalidValue("A search has one page; raise its limit.", param="after")
    found = await queries.search(caller, query, asked, limit=limit)
    data = [MemoryOut.of(each.fact, each.score) for each in found]
    return MemoryList(data=data, has_more=False, next_cursor=None)


@router.delete("")
async def forget_everything(
    caller: Caller,
    handle: Annotated[ForgetAllHandler, provided(lambda c: c.forget_all())],
    all: Annotated[Literal["true"], Query(description="To be sure.")],
    user_id: OfUser = None,
) -> MemoriesGone:
    """Forget all that is known of you, by whatever agent. What you share stays."""
    return MemoriesGone(deleted=await handle(ForgetAll(caller, _user(user_id))))


@router.get("/{id}")
async def get_memory(id: str, response: Response, caller: Caller, queries: Queries) -> MemoryOut:
    """One memory."""
    return _shown(await queries.get(caller, MemoryId(id)), response)


@router.patch("/{id}", responses=errors_of(409, 412, 413))
async def change_memory(
    id: str,
    body: MemoryPatch,
    response: Response,
    caller: Caller,
    handle: Annotated[ChangeMemoryHandler, provided(lambda c: c.change_memory())],
    if_match: IfMatch = None,
) -> MemoryOut:
    """What is not sent stays."""
    command = ChangeMemory(caller=caller, id=MemoryId(id), fields=body.fields(), if_match=if_match)
    return _shown(await handle(command), response)


@router.delete("/{id}")
async def forget(
    id: str, caller: Caller, handle: Annotated[ForgetHandler, provided(lambda c: c.forget())]
) -> MemoryGone:
    """Forget one."""
    await handle(Forget(caller, MemoryId(id)))
    return MemoryGone(id=id)


def _user(id: str | None) -> UserId | None:
    return None if id is None else UserId(id)


def _shown(fact: Fact, response: Response) -> MemoryOut:
    response.headers["ETag"] = fact.etag
    return MemoryOut.of(fact)
