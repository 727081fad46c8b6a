"""Providers of the settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.domain.entities.providers import ProviderModel
from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.providers import (
    AS_CONFIGURED,
    Capabilities,
    EnvironmentKey,
    Fallback,
    Routing,
    Tuning,
)
from runtime.infrastructure.providers.configured import Configured, configured, own_addresses
from runtime.infrastructure.settings import Settings, explained

TABLE = """
[providers.mine]
type = "openai"
base_url = "http://me:pass-word@10.0.0.8:8080/v1"
api_key_env = "MY_LLM_API_KEY"
default_model = "large"
structured_output = "json_object"
options = { organization = "acme" }
tuning = { connect_s = 2, attempts = 1 }

[providers.mine.models.large]
upstream_name = "vendor/large-2"
capabilities = { tools = true, context_window = 128000 }
fallbacks = [{ model = "demo", weight = 2 }]
routing = "weighted"
weight = 3

[providers.ollama]
type = "local"
api_key = "key-of-the-table"
"""
ENVIRONMENT = {"MY_LLM_API_KEY": "key-of-mine"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def by_name(settings: Settings) -> dict[str, Configured]:
    return {each.provider.id: each for each in configured(settings, ENVIRONMENT)}


def test_without_settings_there_is_the_demo(folder: Path) -> None:
    (demo,) = configured(Settings())

    assert (demo.provider.id, demo.provider.type, demo.api_key) == ("demo", "demo", None)


def test_the_known_names_come_first_and_the_demo_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "runtime.toml").write_text(TABLE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://claude.test")

    found = by_name(Settings())

    assert list(found) == ["openai", "anthropic", "mine", "ollama", "demo"]
    assert found["openai"].api_key == "sk-openai"
    assert found["openai"].provider.key == EnvironmentKey("OPENAI_API_KEY")
    assert found["openai"].provider.default_model == "gpt-4.1-mini"
    assert found["openai"].provider.formats == frozenset({"json_schema", "json_object"})
    assert (found["anthropic"].api_key, found["anthropic"].provider.key) == (None, None)
    assert found["anthropic"].provider.base_url == "http://claude.test"


def test_a_table_says_everything_of_a_provider_and_its_models(folder: Path) -> None:
    (folder / "runtime.toml").write_text(TABLE)
    mine = by_name(Settings())["mine"]

    assert mine.api_key == "key-of-mine"
    provider = mine.provider
    assert (provider.type, provider.default_model) == ("openai", "large")
    assert provider.formats == frozenset({"json_object"})
    assert provider.options == {"organization": "acme"}
    assert provider.tuning == Tuning(connect_s=2, attempts=1)
    assert provider.models == (
        ProviderModel(
            name="large",
            upstream_name="vendor/large-2",
            capabilities=Capabilities(tools=True, context_window=128_000),
            fallbacks=(Fallback("demo", 2),),
            routing=Routing.WEIGHTED,
            weight=3,
        ),
    )


def test_a_local_provider_is_at_its_usual_address_and_may_be_called_there(folder: Path) -> None:
    (folder / "runtime.toml").write_text(TABLE)
    settings = Settings()
    ollama = by_name(settings)["ollama"]

    assert (ollama.api_key, ollama.provider.key) == ("key-of-the-table", None)
    assert ollama.provider.tuning == AS_CONFIGURED
    assert own_addresses(settings) == [
        "http://me:pass-word@10.0.0.8:8080/v1",
        "http://127.0.0.1:11434/v1",
    ]


def test_the_environment_gives_providers_as_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_PROVIDERS", '{"x": {"type": "demo", "enabled": false}}')

    assert by_name(Settings())["x"].provider.enabled is False


def test_keys_of_tables_are_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runtime.toml").write_text(TABLE)
    monkeypatch.setenv("MY_LLM_API_KEY", "key-of-mine")
    settings = Settings(anthropic_api_key="key-of-claude")  # type: ignore[arg-type]
    secrets = {"key-of-mine", "key-of-the-table", "pass-word", "key-of-claude"}

    assert secrets <= set(settings.secrets)
    shown = str(settings.masked())
    assert "vendor/large-2" in shown
    assert not [each for each in secrets if each in shown]
    assert not [each for each in secrets if each in repr(configured(settings, ENVIRONMENT)[2])]


def test_a_variable_that_is_not_set_is_named(folder: Path) -> None:
    (folder / "runtime.toml").write_text(TABLE)

    with pytest.raises(InvalidValue, match="Environment variable MY_LLM_API_KEY not set"):
        configured(Settings(), {"MY_LLM_API_KEY": " "})


def test_a_provider_that_is_there_twice_is_refused(folder: Path) -> None:
    settings = Settings(openai_base_url="http://x.test", providers={"openai": {"type": "demo"}})  # type: ignore[dict-item]

    with pytest.raises(InvalidValue, match="'openai' is configured twice"):
        configured(settings)


@pytest.mark.parametrize("reference", ["claud/x", "demo/", "x"])
def test_a_fallback_that_no_table_serves_is_named(reference: str) -> None:
    model = {"fallbacks": [{"model": "house/small"}, {"model": reference}]}
    house = {"type": "demo", "models": {"large": model}}
    settings = Settings(providers={"house": house})  # type: ignore[dict-item]

    named = f"RUNTIME_PROVIDERS.house.models.large.fallbacks: .* serves '{reference}'"
    with pytest.raises(InvalidValue, match=named):
        configured(settings)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"a b": {"type": "demo"}}, "RUNTIME_PROVIDERS: a provider's name is"),
        ({"demo": {"type": "demo"}}, "RUNTIME_PROVIDERS: 'demo' is there already"),
        ({"x": {}}, "RUNTIME_PROVIDERS.x.type: Field required"),
        ({"x": {"type": "demo", "colour": 1}}, "RUNTIME_PROVIDERS.x.colour: Extra inputs"),
        ({"x": {"type": "y", "base_url": "ftp://z"}}, "RUNTIME_PROVIDERS.x: base_url must begin"),
        (
            {"x": {"type": "y", "api_key": "sk-hidden", "api_key_env": "Z"}},
            "RUNTIME_PROVIDERS.x: a key is given by",
        ),
        ({"x": {"type": "y", "tuning": {"connect_s": 0}}}, "RUNTIME_PROVIDERS.x.tuning.connect_s:"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(table: object, problem: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(providers=table)  # type: ignore[arg-type]

    (line,) = explained(error.value)
    assert line.startswith(problem)
    assert "sk-hidden" not in str(error.value)


def test_what_holds_for_every_provider_is_complete_but_for_its_places() -> None:
    tuning = Settings(breaker_threshold=7, model_timeout_s=90).model_tuning

    assert tuning == Tuning(10, 60, 60, 300, 90, 3, None, 7, 30)
