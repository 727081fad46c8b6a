"""Types of provider: what is found, and how one is connected."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from runtime.domain.errors import EgressRefused, InvalidValue, UnsupportedParameter, UpstreamFailed
from runtime.domain.events.runs import TextDelta, UsageReported
from runtime.domain.services.models import EmbeddingCall, ModelCall, ModelFinished
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    Message,
    ToolSpec,
    Usage,
)
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.frameworks.discovery import TemplateFolder
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.providers.adapters import BUILT_IN, AdapterRegistry
from runtime.infrastructure.providers.base import Connection, ProviderAdapter
from runtime.infrastructure.providers.openai import OpenAIProvider
from runtime.infrastructure.providers.openai_like import AzureOpenAIProvider
from runtime.infrastructure.tools.service import BuiltinTools
from tests.upstream import FakeUpstream, answers

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_provider.py"
KEY = "sk-canary-0123456789"
HELLO = ModelCall(None, [Message(ChatRole.USER, "Hello")])


class Mine(OpenAIProvider):
    type = "mine"


class Named(OpenAIProvider):
    type = "openai"


class Nameless(ProviderAdapter): ...


@pytest.fixture
def registry() -> AdapterRegistry:
    return AdapterRegistry([])


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def egress(upstream: FakeUpstream) -> AsyncIterator[EgressClient]:
    client = EgressClient(EgressPolicy(own=[upstream.base_url]))
    yield client
    await client.aclose()


@pytest.fixture
def folder(tmp_path: Path, registry: AdapterRegistry) -> TemplateFolder:
    return TemplateFolder(tmp_path, TemplateRegistry(BuiltinTools()), [registry])


@pytest.mark.parametrize("type", BUILT_IN)
def test_every_built_in_type_is_there_under_its_name(registry: AdapterRegistry, type: str) -> None:
    assert registry.get(type).type == type
    assert type in registry.types()


def test_an_unknown_type_is_refused_with_those_there_are(registry: AdapterRegistry) -> None:
    with pytest.raises(InvalidValue, match="anthropic, azure_openai, demo") as refusal:
        registry.get("vertex")
    assert refusal.value.details == {"types": registry.types()}


def test_a_type_comes_and_goes(registry: AdapterRegistry) -> None:
    registry.register(Mine)
    assert registry.get("mine") is Mine

    registry.unregister("mine")
    with pytest.raises(InvalidValue):
        registry.get("mine")


@pytest.mark.parametrize("adapter", [Named, Nameless])
def test_a_type_that_is_taken_or_has_no_name_is_refused(
    registry: AdapterRegistry, adapter: type[ProviderAdapter]
) -> None:
    with pytest.raises(ValueError, match=r"already there|without a `type`"):
        registry.register(adapter)


def test_an_installed_package_gives_a_type_that_is_loaded_when_it_is_asked_for() -> None:
    group = "agent_runtime.providers"
    registry = AdapterRegistry(
        [
            EntryPoint("mine", f"{__name__}:Mine", group),
            EntryPoint("gone", "no.such.module:Adapter", group),
            EntryPoint("other", f"{__name__}:Mine", group),
            EntryPoint("openai", f"{__name__}:Mine", group),
        ]
    )

    assert {"mine", "gone"} <= set(registry.types())
    assert registry.get("mine") is Mine
    assert registry.get("openai") is OpenAIProvider
    for broken in ("gone", "other"):
        with pytest.raises(InvalidValue, match="does not load"):
            registry.get(broken)


def test_types_are_imported_only_when_they_are_asked_for() -> None:
    script = (
        "import sys; from runtime.infrastructure.providers.adapters import AdapterRegistry; "
        "AdapterRegistry().types(); print([m for m in sys.modules if 'anthropic' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_file_in_a_folder_gives_a_type_which_its_next_edition_replaces(
    folder: TemplateFolder, registry: AdapterRegistry
) -> None:
    file = folder.path / "plain.py"
    shutil.copy(EXAMPLE, file)
    folder.sync()
    before = registry.get("plain")

    file.write_text(EXAMPLE.read_text().replace("plain-1", "plain-2"))
    folder.sync()
    assert registry.get("plain") is not before
    assert registry.get("plain").usual_model == "plain-2"

    file.write_text("broken(")
    folder.sync()
    assert registry.get("plain").usual_model == "plain-2"

    file.unlink()
    folder.sync()
    assert "plain" not in registry.types()


async def test_the_example_answers(
    folder: TemplateFolder, registry: AdapterRegistry, egress: EgressClient, upstream: FakeUpstream
) -> None:
    shutil.copy(EXAMPLE, folder.path)
    folder.sync()
    connection = Connection("house", upstream.base_url, KEY)
    provider = registry.get("plain").connect(egress, connection)
    end = {"end": "limit", "read": 2, "written": 2}
    upstream.script(answers.chunks({"word": "Good "}, {"word": "day"}, end, done=False))

    assert [event async for event in provider.stream(HELLO, provider.default_model)] == [
        TextDelta("Good "),
        TextDelta("day"),
        UsageReported(Usage(2, 2), "plain-1"),
        ModelFinished("length", "plain-1"),
    ]
    (request,) = upstream.requests
    assert request.path == "/v1/generate"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json == {"model": "plain-1", "prompt": "user: Hello", "limit": None}

    upstream.script(answers.chunks({"word": "Good "}, done=False))
    with pytest.raises(UpstreamFailed, match="'house' ended before"):
        assert not [event async for event in provider.stream(HELLO, "plain-1")]
    tools = ModelCall(None, HELLO.messages, GenerationOptions(tools=(ToolSpec("f"),)))
    with pytest.raises(UnsupportedParameter):
        await anext(provider.stream(tools, "plain-1"))
    await provider.aclose()


@pytest.mark.parametrize(
    ("type", "connection", "param"),
    [
        ("openai", Connection("x"), "api_key"),
        ("openai", Connection("x", "ftp://example.com", KEY), "base_url"),
        ("openai", Connection("x", "", KEY), "base_url"),
        ("openai", Connection("x", "https://[", KEY), "base_url"),
        ("openai", Connection("x", api_key="a b"), "api_key"),
        ("openai", Connection("x", api_key=KEY, options={"region": "eu"}), "options"),
        ("azure_openai", Connection("x", "https://r.openai.azure.com"), "api_key"),
        ("azure_openai", Connection("x", api_key=KEY), "base_url"),
        (
            "azure_openai",
            Connection("x", "https://r.openai.azure.com", KEY, options={"api_version": 1}),
            "options",
        ),
        ("anthropic", Connection("x"), "api_key"),
        ("huggingface", Connection("x"), "api_key"),
        ("demo", Connection("x", options={"token_delay_ms": -1}), "options"),
        ("demo", Connection("x", options={"token_delay_ms": "1"}), "options"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_by_its_field(
    registry: AdapterRegistry, type: str, connection: Connection, param: str
) -> None:
    with pytest.raises(InvalidValue) as refusal:
        registry.get(type).connect(EgressClient(EgressPolicy()), connection)
    assert refusal.value.param == param
    assert KEY not in str(refusal.value)


def test_an_address_that_is_not_called_is_refused(registry: AdapterRegistry) -> None:
    with pytest.raises(EgressRefused):
        registry.get("local").connect(EgressClient(EgressPolicy()), Connection("local"))


@pytest.mark.parametrize(
    ("type", "own"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("azure_openai", None),
        ("huggingface", "https://router.huggingface.co/v1"),
        ("local", "http://127.0.0.1:11434/v1"),
        ("anthropic", "https://api.anthropic.com"),
        ("demo", None),
    ],
)
def test_a_type_knows_its_own_address(
    registry: AdapterRegistry, type: str, own: str | None
) -> None:
    assert registry.get(type).base_url_of(None) == own
    assert registry.get(type).base_url_of("https://example.com") == "https://example.com"


def test_a_connection_names_what_its_type_would_choose(
    registry: AdapterRegistry, egress: EgressClient, upstream: FakeUpstream
) -> None:
    formats = frozenset({"json_schema"})
    local = registry.get("local")
    chosen = Connection("house", upstream.base_url, default_model="qwen3", formats=formats)
    usual = local.connect(egress, Connection("local", upstream.base_url))
    made = local.connect(egress, chosen)

    assert (made.name, made.default_model, made.formats) == ("house", "qwen3", formats)
    assert (usual.default_model, usual.formats) == ("llama3.2", {"json_object"})
    assert KEY not in repr(Connection("x", api_key=KEY))


@pytest.mark.parametrize(
    ("path", "options", "called"),
    [
        ("", {}, "/openai/v1/chat/completions"),
        ("/openai/v1", {}, "/openai/v1/chat/completions"),
        (
            "/openai/v1/",
            {"api_version": "preview"},
            "/openai/v1/chat/completions?api-version=preview",
        ),
        (
            "",
            {"api_version": "2024-10-21"},
            "/openai/deployments/%2E%2E%2Fgpt%3F/chat/completions?api-version=2024-10-21",
        ),
        (
            "/openai",
            {"api_version": "2024-10-21"},
            "/openai/deployments/%2E%2E%2Fgpt%3F/chat/completions?api-version=2024-10-21",
        ),
    ],
)
async def test_azure_is_called_in_both_of_its_styles(
    registry: AdapterRegistry,
    egress: EgressClient,
    upstream: FakeUpstream,
    path: str,
    options: dict[str, object],
    called: str,
) -> None:
    connection = Connection("azure", upstream.azure_url + path, KEY, options=options)
    provider = registry.get("azure_openai").connect(egress, connection)
    upstream.script(answers.says("Hi"))
    assert [event async for event in provider.stream(HELLO, "../gpt?")]
    await provider.aclose()

    (request,) = upstream.requests
    assert f"{request.path}?{request.query}".rstrip("?") == called
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/openai/v1/embeddings"),
        ({"api_version": "2024-10-21"}, "/openai/deployments/ada/embeddings"),
    ],
)
async def test_azure_embeds_in_both_of_its_styles(
    registry: AdapterRegistry,
    egress: EgressClient,
    upstream: FakeUpstream,
    options: dict[str, object],
    path: str,
) -> None:
    connection = Connection("azure", upstream.azure_url, KEY, options=options)
    provider = registry.get("azure_openai").connect(egress, connection)
    assert isinstance(provider, AzureOpenAIProvider)
    made = await provider.embed(EmbeddingCall("azure/ada", ["one", "three"]), "ada")
    await provider.aclose()

    assert [vector[0] for vector in made.vectors] == [3, 5]
    assert upstream.requests[0].path == path


async def test_what_azures_filter_adds_does_not_disturb(
    registry: AdapterRegistry, egress: EgressClient, upstream: FakeUpstream
) -> None:
    filtered: dict[str, object] = {
        "prompt_filter_results": [{"content_filter_results": {}}],
        "choices": [],
    }
    verdict: dict[str, object] = {
        "index": 0,
        "finish_reason": None,
        "content_filter_results": {"hate": {}},
    }
    upstream.script(
        answers.chunks(
            {"model": "", **filtered},
            answers.chunk({"content": "Hm"}),
            {"choices": [verdict]},
            answers.chunk(finish="content_filter"),
        )
    )
    connection = Connection("azure", upstream.azure_url, KEY)
    provider = registry.get("azure_openai").connect(egress, connection)
    events = [event async for event in provider.stream(HELLO, "gpt")]
    await provider.aclose()

    assert events == [TextDelta("Hm"), ModelFinished("content_filter", "fake-1", "fp_fake")]
