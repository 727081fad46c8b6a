"""A short call that shows whether a model can be called at all."""

import asyncio
from contextlib import aclosing
from time import perf_counter

from runtime.domain.errors import DomainError, UpstreamMisconfigured, UpstreamTimeout
from runtime.domain.services.models import EmbeddingCall, ModelCall, Probed
from runtime.domain.value_objects.chat import ChatRole, GenerationOptions, Message
from runtime.infrastructure.providers.base import EmbeddingProvider
from runtime.infrastructure.providers.live import LiveModel

WITHIN_S = 20.0
_SAID = "Say OK."
_OPTIONS = GenerationOptions(max_completion_tokens=16)


async def probe(model: LiveModel) -> Probed:
    """Past the breaker, which an answer closes."""
    since = perf_counter()
    error: DomainError | None = None
    try:
        async with asyncio.timeout(WITHIN_S):
            await _call(model)
        model.breaker.reset()
        model.calls.last_failed = False
    except TimeoutError:
        error = UpstreamTimeout(
            f"The model provider '{model.provider.id}' did not answer within {WITHIN_S:g} s."
        )
    except UpstreamMisconfigured as failed:
        # Whoever tries a provider may know what callers of its agents are not told.
        error = failed.__cause__ if isinstance(failed.__cause__, DomainError) else failed
    except DomainError as failed:
        error = failed
    took_ms = (perf_counter() - since) * 1_000
    return Probed(model.provider.id, model.spec.upstream_name, took_ms, error)


async def _call(model: LiveModel) -> None:
    adapter, name = model.provider.adapter, model.spec.upstream_name
    if model.spec.capabilities.embeddings and isinstance(adapter, EmbeddingProvider):
        await adapter.embed(EmbeddingCall(name, [_SAID]), name)
        return
    call = ModelCall(None, [Message(ChatRole.USER, _SAID)], _OPTIONS, stream=False)
    async with aclosing(adapter.stream(call, name)) as events:
        async for _ in events:
            pass
