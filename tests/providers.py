"""Providers made by hand, for tests that need one and not the registry."""

from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.adapters import AdapterRegistry
from runtime.infrastructure.providers.base import Connection, Provider, Timeouts
from runtime.infrastructure.providers.demo import DemoProvider
from runtime.infrastructure.providers.openai import OpenAIProvider
from tests.upstream import FakeUpstream


def openai(
    egress: EgressClient,
    base_url: str,
    api_key: str | None = None,
    *,
    default_model: str | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
) -> OpenAIProvider:
    connection = Connection(
        "openai", base_url, api_key, default_model=default_model, timeouts=timeouts
    )
    return OpenAIProvider(egress, connection)


WIRES = ("openai", "azure_openai", "azure_dated", "huggingface", "local", "anthropic")
"""The types of provider that a fake upstream can play, and one in its second form."""


def connected(
    kind: str,
    egress: EgressClient,
    upstream: FakeUpstream,
    api_key: str = "sk-test-0123456789",
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
) -> Provider:
    """A provider of one of `WIRES`, or the demo, made as the runtime makes it."""
    if kind == "demo":
        return demo()
    azure = kind.startswith("azure")
    connection = Connection(
        kind,
        upstream.azure_url if azure else upstream.base_url,
        api_key,
        default_model="fake-1",
        default_embedding_model="text-embedding-3-small",
        options={"api_version": "2024-10-21"} if kind == "azure_dated" else {},
        timeouts=timeouts,
    )
    adapter = AdapterRegistry().get("azure_openai" if azure else kind)
    return adapter.connect(egress, connection)


def demo() -> DemoProvider:
    return DemoProvider(EgressClient(EgressPolicy()), Connection("demo"))
