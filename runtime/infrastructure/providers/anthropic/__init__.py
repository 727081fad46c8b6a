"""Any endpoint that speaks Anthropic's Messages API."""

from runtime.infrastructure.providers.anthropic.provider import AnthropicProvider

__all__ = ["AnthropicProvider"]
