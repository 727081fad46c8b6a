"""OpenAI `/v1/conversations`: what is remembered, whichever door it came in by."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.sessions import (
    AddItems,
    CreateSession,
    DeleteItem,
    DeleteSession,
    DescribeSession,
)
from runtime.application.handlers.sessions import (
    AddItemsHandler,
    CreateSessionHandler,
    DeleteItemHandler,
    DeleteSessionHandler,
    DescribeSessionHandler,
)
from runtime.application.queries.sessions import SessionQueries
from runtime.domain.entities.sessions import MAX_PAIR_KEY, MAX_PAIR_VALUE, MAX_PAIRS, Session
from runtime.domain.value_objects.ids import ItemId, SessionId
from runtime.domain.value_objects.items import Item
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.openai.examples import CONVERSATION_ERRORS
from runtime.infrastructure.web.openai.items import InputItem, item_of, wire_of
from runtime.infrastructure.web.openai.wire_messages import Wire
from runtime.infrastructure.web.requests import StrictRoute

router = APIRouter(
    prefix="/v1/conversations",
    tags=["OpenAI"],
    route_class=StrictRoute,
    responses=CONVERSATION_ERRORS,
)

MAX_ITEMS = 20
"""In one request."""
_HELLO: dict[str, Any] = {"type": "message", "role": "user", "content": "Hello!"}

Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=MAX_PAIR_KEY)],
        Annotated[str, Field(max_length=MAX_PAIR_VALUE)],
    ],
    Field(max_length=MAX_PAIRS),
]
Queries = Annotated[SessionQueries, provided(lambda c: c.session_queries())]
Include = Annotated[
    list[
        Literal[
            "file_search_call.results",
            "web_search_call.results",
            "web_search_call.action.sources",
            "message.input_image.image_url",
            "computer_call_output.output.image_url",
            "code_interpreter_call.outputs",
            "reasoning.encrypted_content",
            "message.output_text.logprobs",
        ]
    ]
    | None,
    Query(description="Everything there is of an item always comes with it."),
]
IncludeInBrackets = Annotated[list[str] | None, Query(alias="include[]", include_in_schema=False)]


class ConversationCreate(Wire):
    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [{"metadata": {"topic": "demo"}, "items": [_HELLO]}]},
    )

    metadata: Metadata | None = None
    items: list[InputItem] | None = Field(default=None, max_length=MAX_ITEMS)


class ConversationUpdate(Wire):
    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"metadata": {"topic": "support"}}]}
    )

    metadata: Metadata | None = Field(description="Takes the place of what there was.")


class ItemsCreate(Wire):
    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"items": [_HELLO]}]})

    items: list[InputItem] = Field(max_length=MAX_ITEMS)


class Conversation(BaseModel):
    id: str = Field(examples=["conv_0199f2c0a6b07cc1b0a5c9b1f7d3e4a2"])
    object: Literal["conversation"] = "conversation"
    created_at: int = Field(description="Unix seconds.", examples=[1790000000])
    metadata: dict[str, str]

    @classmethod
    def of(cls, session: Session) -> "Conversation":
        created_at = int(session.created_at.timestamp())
        return cls(id=session.id, created_at=created_at, metadata=dict(session.metadata))


class ConversationDeleted(BaseModel):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class ItemList(BaseModel):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str = Field(description="Empty when there is none.")
    last_id: str = Field(description="Pass it back as `after` to get what follows.")
    has_more: bool

    @classmethod
    def of(cls, items: Sequence[Item], *, has_more: bool = False) -> "ItemList":
        return cls(
            data=[wire_of(item) for item in items],
            first_id=items[0].id if items else "",
            last_id=items[-1].id if items else "",
            has_more=has_more,
        )


@router.post("")
async def create_conversation(
    caller: Caller,
    create: Annotated[CreateSessionHandler, provided(lambda c: c.create_session())],
    body: ConversationCreate | None = None,
) -> Conversation:
    """Begin a conversation; name it by its id in later calls, with any agent."""
    body = body or ConversationCreate()
    items = [item_of(item) for item in body.items or ()]
    return Conversation.of(await create(CreateSession(caller, body.metadata or {}, items)))


@router.get("/{conversation_id}")
async def retrieve_conversation(
    conversation_id: str, caller: Caller, queries: Queries
) -> Conversation:
    """A session of chat completions is a conversation too; `X-Conversation-Id` has its id."""
    return Conversation.of(await queries.get(caller, SessionId(conversation_id)))


@router.post("/{conversation_id}")
async def update_conversation(
    conversation_id: str,
    body: ConversationUpdate,
    caller: Caller,
    describe: Annotated[DescribeSessionHandler, provided(lambda c: c.describe_session())],
) -> Conversation:
    command = DescribeSession(caller, SessionId(conversation_id), body.metadata or {})
    return Conversation.of(await describe(command))


@router.delete("/{conversation_id}")
async def delete_conversation(
    conversation_id: str,
    caller: Caller,
    delete: Annotated[DeleteSessionHandler, provided(lambda c: c.delete_session())],
) -> ConversationDeleted:
    """With everything that was said in it. A turn that goes on is answered, but not remembered."""
    await delete(DeleteSession(caller, SessionId(conversation_id)))
    return ConversationDeleted(id=conversation_id)


@router.post("/{conversation_id}/items")
async def create_items(
    conversation_id: str,
    body: ItemsCreate,
    caller: Caller,
    add: Annotated[AddItemsHandler, provided(lambda c: c.add_items())],
    include: Include = None,
    include_too: IncludeInBrackets = None,
) -> ItemList:
    """Add to the end, once no turn goes on. The answer has the items that were added."""
    items = [item_of(item) for item in body.items]
    await add(AddItems(caller, SessionId(conversation_id), items))
    return ItemList.of(items)


@router.get("/{conversation_id}/items")
async def list_items(
    conversation_id: str,
    caller: Caller,
    queries: Queries,
    limit: Annotated[int, Query(ge=1, le=100, description="Most items on the page.")] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: newest first.")] = "desc",
    after: Annotated[
        str | None, Query(max_length=256, description="The id of the item before the page.")
    ] = None,
    include: Include = None,
    include_too: IncludeInBrackets = None,
) -> ItemList:
    items, has_more = await queries.items(
        caller,
        SessionId(conversation_id),
        limit=limit,
        after=ItemId(after) if after else None,
        newest_first=order == "desc",
    )
    return ItemList.of(items, has_more=has_more)


@router.get("/{conversation_id}/items/{item_id}")
async def retrieve_item(
    conversation_id: str,
    item_id: str,
    caller: Caller,
    queries: Queries,
    include: Include = None,
    include_too: IncludeInBrackets = None,
) -> dict[str, Any]:
    return wire_of(await queries.item(caller, SessionId(conversation_id), ItemId(item_id)))


@router.delete("/{conversation_id}/items/{item_id}")
async def delete_item(
    conversation_id: str,
    item_id: str,
    caller: Caller,
    delete: Annotated[DeleteItemHandler, provided(lambda c: c.delete_item())],
) -> Conversation:
    """Once no turn goes on. The answer is the conversation."""
    command = DeleteItem(caller, SessionId(conversation_id), ItemId(item_id))
    return Conversation.of(await delete(command))
