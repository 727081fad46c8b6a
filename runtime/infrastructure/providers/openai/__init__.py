"""Any endpoint that speaks OpenAI's chat completions."""

from runtime.infrastructure.providers.openai.provider import OpenAIProvider

__all__ = ["OpenAIProvider"]
