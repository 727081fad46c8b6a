from collections.abc import AsyncGenerator
from functools import partial

from runtime.domain.errors import InvalidValue
from runtime.domain.services.models import ModelCall, ModelEvent
from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.anthropic.answers import MessageAnswer
from runtime.infrastructure.providers.anthropic.requests import Dialect, Thinking, request_body
from runtime.infrastructure.providers.base import (
    Connection,
    ProviderAdapter,
    number_option,
    text_option,
)
from runtime.infrastructure.providers.wire import KeyHeader, Wire, address

_VERSION = "2023-06-01"
_DEFAULT_MAX_TOKENS = 4096
_THINKING: tuple[Thinking, ...] = ("auto", "adaptive", "budget", "off")


class AnthropicProvider(ProviderAdapter):
    """Anthropic, and any endpoint that speaks its Messages API.

    The base URL is the one that Anthropic's own clients take, without `/v1`. Options:
    `max_tokens` for calls that set no limit, since the API wants one; `thinking` says how
    `reasoning_effort` is asked for: `adaptive`, `budget`, `off`, or `auto`, by the model's name.
    """

    type = "anthropic"
    default_base_url = "https://api.anthropic.com"
    needs_key = True
    usual_model = "claude-sonnet-4-6"
    option_names = frozenset({"max_tokens", "thinking"})

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        super().__init__(egress, connection)
        # Schemas are all that the API itself can be held to.
        self.formats = frozenset(self.formats) & {"json_schema"}
        root = (self.base_url_of(connection.base_url) or "").rstrip("/").removesuffix("/v1")
        self._messages = address(root, "v1/messages")
        self._dialect = Dialect(
            int(number_option(connection, "max_tokens", _DEFAULT_MAX_TOKENS, least=1)),
            _thinking(text_option(connection, "thinking")),
        )
        self._wire = Wire(
            egress,
            connection,
            root,
            key=KeyHeader("x-api-key", ""),
            headers={"anthropic-version": _VERSION},
        )

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        return self._wire.stream(
            self._messages,
            partial(request_body, call, model, self._dialect),
            MessageAnswer(self._wire.faults, model),
            model,
            stream=call.stream,
            headers=call.headers,
        )

    async def aclose(self) -> None:
        await self._wire.aclose()


def _thinking(chosen: str | None) -> Thinking:
    for known in _THINKING:
        if chosen in (known, None):
            return known
    raise InvalidValue(f"The option 'thinking' is one of {', '.join(_THINKING)}.", param="options")
