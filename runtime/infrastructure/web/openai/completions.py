"""OpenAI `/v1/chat/completions` as a collection: the answers that were made with `store`."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.completions import DeleteCompletion, RelabelCompletion
from runtime.application.handlers.completions import (
    DeleteCompletionHandler,
    RelabelCompletionHandler,
)
from runtime.application.queries.completions import CompletionQueries
from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.errors import InvalidValue
from runtime.domain.repositories.completions import CompletionFilter
from runtime.domain.value_objects.chat import NO_USAGE, Message
from runtime.domain.value_objects.completions import MAX_LABELS
from runtime.domain.value_objects.ids import CompletionId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.openai.chat_objects import (
    asked_object,
    choice_object,
    head,
    usage_object,
)
from runtime.infrastructure.web.openai.examples import (
    KEPT,
    KEPT_LIST,
    KEPT_MESSAGES,
    STORED_ERRORS,
    answered,
)
from runtime.infrastructure.web.openai.wire_options import Metadata
from runtime.infrastructure.web.requests import StrictRoute

router = APIRouter(
    prefix="/v1/chat/completions",
    tags=["OpenAI"],
    route_class=StrictRoute,
    responses=STORED_ERRORS,
)
Queries = Annotated[CompletionQueries, provided(lambda c: c.completion_queries())]
Id = Annotated[str, Path(max_length=256)]
After = Annotated[str | None, Query(max_length=256, description="The last id that was seen.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Annotated[Literal["asc", "desc"], Query(description="By time.")]
_LABEL = re.compile(r"metadata\[(.+)\]", re.DOTALL)
_METADATA_PARAMETER = {
    "name": "metadata",
    "in": "query",
    "description": "Only those that have all of these: `metadata[team]=blue`.",
    "style": "deepObject",
    "explode": True,
    "schema": {
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": {"type": "string"},
    },
}


class CompletionUpdate(BaseModel):
    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"metadata": {"team": "blue"}}]}
    )

    metadata: Metadata | None = Field(
        description="In place of all that was there: at most 16 texts of 512 characters, by names "
        "of 64."
    )


@router.get(
    "",
    responses=answered("ChatCompletionList", KEPT_LIST),
    openapi_extra={"parameters": [_METADATA_PARAMETER]},
)
async def list_chat_completions(
    request: Request,
    caller: Caller,
    queries: Queries,
    model: Annotated[str | None, Query(max_length=256)] = None,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> dict[str, Any]:
    """The answers that were kept: an admin sees the project's, others their own."""
    page = await queries.page(
        caller,
        CompletionFilter(model, _labels(request)),
        limit=limit,
        after=CompletionId(after) if after is not None else None,
        newest_first=order == "desc",
    )
    return _listed([_completion(each) for each in page.items], more=page.next_cursor is not None)


@router.get("/{completion_id}", responses=answered("ChatCompletion", KEPT))
async def get_chat_completion(
    completion_id: Id, caller: Caller, queries: Queries
) -> dict[str, Any]:
    """An answer that was kept."""
    return _completion(await queries.get(caller, CompletionId(completion_id)))


@router.post("/{completion_id}", responses=answered("ChatCompletion", KEPT))
async def update_chat_completion(
    completion_id: Id,
    body: CompletionUpdate,
    caller: Caller,
    relabel: Annotated[RelabelCompletionHandler, provided(lambda c: c.relabel_completion())],
) -> dict[str, Any]:
    """Give a kept answer other `metadata`."""
    command = RelabelCompletion(caller, CompletionId(completion_id), body.metadata or {})
    return _completion(await relabel(command))


@router.delete(
    "/{completion_id}",
    responses=answered(
        "ChatCompletionDeleted",
        {"object": "chat.completion.deleted", "id": KEPT["id"], "deleted": True},
    ),
)
async def delete_chat_completion(
    completion_id: Id,
    caller: Caller,
    delete: Annotated[DeleteCompletionHandler, provided(lambda c: c.delete_completion())],
) -> dict[str, Any]:
    await delete(DeleteCompletion(caller, CompletionId(completion_id)))
    return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}


@router.get(
    "/{completion_id}/messages", responses=answered("ChatCompletionMessageList", KEPT_MESSAGES)
)
async def list_chat_completion_messages(
    completion_id: Id,
    caller: Caller,
    queries: Queries,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> dict[str, Any]:
    """The messages that a kept answer answers."""
    asked = await queries.asked(caller, CompletionId(completion_id))
    objects = _messages(completion_id, asked)
    if order == "desc":
        objects.reverse()
    start = _after(objects, after)
    return _listed(objects[start : start + limit], more=len(objects) > start + limit)


def _labels(request: Request) -> dict[str, str]:
    """OpenAI's own clients write a map as `metadata[key]=value`."""
    given = request.query_params.multi_items()
    found = [(match[1], value) for name, value in given if (match := _LABEL.fullmatch(name))]
    if len(found) > MAX_LABELS:
        raise InvalidValue(f"At most {MAX_LABELS} are looked for.", param="metadata")
    return dict(found)


def _completion(completion: ChatCompletion) -> dict[str, Any]:
    choices = completion.choices
    return {
        **head(completion.id, completion.model, completion.fingerprint, "chat.completion"),
        "metadata": completion.labels,
        "choices": [choice_object(index, choice) for index, choice in enumerate(choices)],
        "usage": usage_object(sum((choice.usage for choice in choices), NO_USAGE)),
    }


def _messages(completion_id: str, asked: Sequence[Message]) -> list[dict[str, Any]]:
    return [asked_object(f"{completion_id}-{at}", message) for at, message in enumerate(asked)]


def _after(objects: Sequence[dict[str, Any]], id: str | None) -> int:
    if id is None:
        return 0
    for at, each in enumerate(objects):
        if each["id"] == id:
            return at + 1
    raise InvalidValue("There is no such message.", param="after")


def _listed(objects: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """OpenAI's lists: the ids are texts even where there is nothing."""
    return {
        "object": "list",
        "data": objects,
        "first_id": objects[0]["id"] if objects else "",
        "last_id": objects[-1]["id"] if objects else "",
        "has_more": more,
    }
