"""OpenAI `POST /v1/embeddings`: vectors from a provider's model."""

import sys
from base64 import b64encode
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Discriminator, Field, Tag

from runtime.application.commands.embeddings import Embed
from runtime.application.handlers.embeddings import EmbedHandler
from runtime.domain.value_objects.embeddings import (
    MAX_INPUTS,
    MAX_TOKENS,
    EmbeddingInput,
    Embeddings,
    Vector,
)
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.disconnect import unless_disconnected
from runtime.infrastructure.web.json_response import JsonResponse
from runtime.infrastructure.web.openai.examples import CHAT_RESPONSES
from runtime.infrastructure.web.openai.wire_messages import Wire
from runtime.infrastructure.web.requests import StrictRoute

router = APIRouter(prefix="/v1/embeddings", tags=["OpenAI"], route_class=StrictRoute)

Text = Annotated[str, Field(min_length=1)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=MAX_TOKENS)]


def _kind(input: object) -> str | None:
    """So that only what is wrong with the kind that was meant is reported. In this form the names
    are no part of a field's path."""
    if isinstance(input, str):
        return "list[text]"
    if not isinstance(input, list):
        return None
    first = input[0] if input else None
    kinds = {int: "list[tokens]", list: "list[lists]"}
    return kinds.get(type(first), "list[texts]")


Input = Annotated[
    Annotated[Text, Tag("list[text]")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS), Tag("list[texts]")]
    | Annotated[Tokens, Tag("list[tokens]")]
    | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_INPUTS), Tag("list[lists]")],
    Discriminator(
        _kind,
        custom_error_type="input_kind",
        custom_error_message="It is a text, a list of texts, a list of tokens or a list of those.",
    ),
]


class EmbeddingRequest(Wire):
    """`CreateEmbeddingRequest` of OpenAI's OpenAPI description."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"model": "demo", "input": "Where is my order?"},
                {
                    "model": "demo",
                    "input": ["Where is my order?", "My order has not arrived."],
                    "dimensions": 64,
                    "encoding_format": "base64",
                },
            ]
        },
    )

    input: Input = Field(description="A text, its tokens, or a list of either.")
    model: str = Field(
        min_length=1,
        max_length=200,
        description="`provider/name`, a provider's name, or the name of a model of the default "
        "provider.",
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=100_000)
    user: str | None = Field(default=None, max_length=512)

    def inputs(self) -> list[EmbeddingInput]:
        given = self.input
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [[each for each in given if isinstance(each, int)]]
        return [each for each in given if not isinstance(each, int)]


_EXAMPLE = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093, 0.0158]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A vector for each input, in their order.",
        "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}},
    },
    **{status: CHAT_RESPONSES[status] for status in (400, 401, 403, 404, 413, 429, 502, 503, 504)},
}


@router.post("", response_model=None, responses=_RESPONSES)
async def create_embeddings(
    body: EmbeddingRequest,
    request: Request,
    caller: Caller,
    embed: Annotated[EmbedHandler, provided(lambda c: c.embed())],
) -> Response:
    """Turn texts into vectors with a provider's embedding model."""
    command = Embed(
        caller=caller,
        model=body.model,
        inputs=body.inputs(),
        dimensions=body.dimensions,
        user=body.user,
    )
    made = await unless_disconnected(request, embed(command))
    return JsonResponse(_wire(made, base64=body.encoding_format == "base64"))


def _wire(made: Embeddings, *, base64: bool) -> dict[str, Any]:
    tokens = made.usage.input_tokens
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _base64(vector) if base64 else vector.tolist(),
            }
            for index, vector in enumerate(made.vectors)
        ],
        "model": made.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: Vector) -> str:
    """Of the numbers' four bytes each, the least one first."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()
