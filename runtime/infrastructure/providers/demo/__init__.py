"""The embedded default model. What it does when is written in docs/models.md."""

from runtime.infrastructure.providers.demo.provider import DemoProvider

__all__ = ["DemoProvider"]
