from collections.abc import AsyncGenerator, Collection, Mapping
from functools import partial
from typing import ClassVar

from yarl import URL

from runtime.domain.errors import EmbeddingModelNotFound
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelEvent
from runtime.domain.value_objects.embeddings import Embeddings
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.base import (
    OPENAI_EMBEDDING_MODELS,
    Connection,
    ProviderAdapter,
)
from runtime.infrastructure.providers.formats import EVERY_FORMAT
from runtime.infrastructure.providers.openai.answers import Answer
from runtime.infrastructure.providers.openai.embeddings import (
    LARGEST_BODY,
    embedding_request,
    embeddings_of,
)
from runtime.infrastructure.providers.openai.requests import request_body
from runtime.infrastructure.providers.wire import BEARER, KeyHeader, Wire, address


class OpenAIProvider(ProviderAdapter):
    """OpenAI, and any endpoint that speaks its chat completions. The base URL has the version."""

    type = "openai"
    default_base_url: ClassVar[str | None] = "https://api.openai.com/v1"
    needs_key = True
    usual_model = "gpt-4.1-mini"
    usual_formats = EVERY_FORMAT
    usual_embedding_model: ClassVar[str] = "text-embedding-3-small"
    known_embedding_models: ClassVar[Collection[str]] = OPENAI_EMBEDDING_MODELS
    key_header: ClassVar[KeyHeader] = BEARER
    headers: ClassVar[Mapping[str, str]] = {}
    """Sent with every request."""

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        super().__init__(egress, connection)
        self.default_embedding_model = (
            connection.default_embedding_model or self.usual_embedding_model
        )
        self.embedding_models = frozenset(
            {self.default_embedding_model, *self.known_embedding_models}
        )
        self._base_url = self.base_url_of(connection.base_url) or ""
        self._chat = address(self._base_url, "chat/completions")
        self._embeddings = address(self._base_url, "embeddings")
        self._wire = Wire(
            egress, connection, self._base_url, key=self.key_header, headers=self.headers
        )

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        return self._wire.stream(
            self._chat_url(model),
            partial(request_body, call, model),
            Answer(self._wire.faults, model),
            model,
            stream=call.stream,
            headers=call.headers,
        )

    async def embed(self, call: EmbeddingCall, model: str) -> Embeddings:
        body = await self._wire.fetch(
            self._embeddings_url(model),
            embedding_request(call, model),
            model,
            headers=call.headers,
            max_bytes=LARGEST_BODY,
            not_found=EmbeddingModelNotFound(f"{self.name}/{model}"),
        )
        return embeddings_of(body, call, model, self._wire.faults)

    async def aclose(self) -> None:
        await self._wire.aclose()

    def _chat_url(self, model: str) -> URL:
        return self._chat

    def _embeddings_url(self, model: str) -> URL:
        return self._embeddings
