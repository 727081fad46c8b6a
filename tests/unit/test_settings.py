import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from runtime.infrastructure.settings import Settings, explained, misspelt, variable

SECRET = "sixteen-letters!"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("RUNTIME_", "OPENAI_", "OTEL_")):
            monkeypatch.delenv(name)
    return tmp_path


def problems(**given: object) -> list[str]:
    with pytest.raises(ValidationError) as error:
        Settings(**given)  # type: ignore[arg-type]
    return explained(error.value)


def test_the_environment_wins_over_dotenv_and_that_over_toml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "runtime.toml").write_text("port = 1\nmodel_attempts = 1\ngrace_s = 1\n")
    (folder / ".env").write_text("RUNTIME_PORT=2\nRUNTIME_MODEL_ATTEMPTS=2\n")
    monkeypatch.setenv("RUNTIME_PORT", "3")

    settings = Settings()

    assert (settings.port, settings.model_attempts, settings.grace_s) == (3, 2, 1)


def test_what_the_command_line_gives_wins_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_PORT", "3")

    assert Settings(port=4).port == 4


@pytest.mark.parametrize(
    "toml",
    [
        'port = 9000\nlog_level = "debug"\nopenai_base_url = "http://x.test/v1"\n',
        '[runtime]\nport = 9000\nlog_level = "debug"\nopenai_base_url = "http://x.test/v1"\n',
        'RUNTIME_PORT = 9000\nRUNTIME_LOG_LEVEL = "DEBUG"\nOPENAI_BASE_URL = "http://x.test/v1/"\n',
    ],
)
def test_toml_takes_names_with_and_without_prefix_and_a_table_of_its_own(
    folder: Path, toml: str
) -> None:
    (folder / "runtime.toml").write_text(toml)

    settings = Settings()

    assert (settings.port, settings.log_level) == (9000, "DEBUG")
    assert settings.openai_base_url == "http://x.test/v1"
    assert settings.openai_configured


def test_the_names_that_openai_uses_need_no_prefix_in_dotenv(folder: Path) -> None:
    (folder / ".env").write_text("OPENAI_API_KEY=sk-1\nOPENAI_BASE_URL=http://x.test\nOTHER=1\n")

    settings = Settings()

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-1"
    assert settings.openai_base_url == "http://x.test"


def test_an_unknown_name_in_a_file_is_refused_with_the_nearest_known_one(folder: Path) -> None:
    (folder / "runtime.toml").write_text("prot = 9000\n[logging]\n")
    (folder / ".env").write_text("RUNTIME_HSOT=::1\n")

    assert sorted(problems()) == [
        "RUNTIME_HSOT: there is no such setting; did you mean RUNTIME_HOST?",
        "RUNTIME_LOGGING: there is no such setting",
        "RUNTIME_PROT: there is no such setting; did you mean RUNTIME_PORT?",
    ]


def test_toml_that_does_not_parse_is_named_with_its_line(folder: Path) -> None:
    (folder / "runtime.toml").write_text("port = 1\nport : 2\n")

    with pytest.raises(SettingsError, match=r"runtime\.toml is not valid TOML: .* line 2"):
        Settings()


def test_a_variable_that_looks_misspelt_is_told_and_others_are_not() -> None:
    environment = {"RUNTIME_PROT": "1", "RUNTIME_PORT": "1", "RUNTIME_SERVICE_HOST": "x", "A": ""}

    assert misspelt(environment) == ["RUNTIME_PROT is not a setting; did you mean RUNTIME_PORT?"]


def test_an_empty_value_is_the_default_and_hides_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("RUNTIME_PORT=9000\nOPENAI_API_KEY=sk-1\n")
    for name in ("RUNTIME_PORT", "RUNTIME_TEMPLATE_DIRS", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "")

    settings = Settings()

    assert (settings.port, settings.template_dirs) == (8000, [])
    assert not settings.openai_configured


@pytest.mark.parametrize("token", ["", "   ", "7-chars", f"{SECRET},", f"{SECRET},short"])
def test_a_token_that_is_blank_or_short_is_refused_and_never_shown(token: str) -> None:
    (problem,) = problems(token=token)

    assert problem.startswith("RUNTIME_TOKEN: must have at least 8 characters")
    assert not token.strip() or token not in problem


def test_no_error_of_the_settings_shows_a_value() -> None:
    with pytest.raises(ValidationError) as error:
        Settings(token="hunter2", database_url="mysql://u:hunter2@h/d")  # type: ignore[arg-type]

    assert "hunter2" not in str(error.value)


def test_two_tokens_are_accepted_while_one_is_replaced() -> None:
    settings = Settings(token=f"{SECRET}, {SECRET[::-1]}")  # type: ignore[arg-type]

    assert settings.tokens == (SECRET, SECRET[::-1])


@pytest.mark.parametrize("key", ["", " ", "x" * 15, f"{'x' * 15} "])
def test_a_secret_key_that_could_be_guessed_is_refused(key: str) -> None:
    (problem,) = problems(secret_key=key)

    assert problem.startswith("RUNTIME_SECRET_KEY: must have at least 16")


@pytest.mark.parametrize("secret", ["", " ", "x" * 31])
def test_a_jwt_secret_that_is_easily_guessed_is_refused(secret: str) -> None:
    (problem,) = problems(jwt_secret=secret)

    assert problem.startswith("RUNTIME_JWT_SECRET: must have at least 32 bytes")


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"jwt_secret": "x" * 32, "jwt_algorithms": "RS256"}, "RUNTIME_JWT_ALGORITHMS"),
        ({"jwt_secret": "x" * 32, "jwt_algorithms": "HS512"}, "RUNTIME_JWT_ALGORITHMS"),
        ({"jwt_secret": "x" * 64, "jwt_algorithms": "none"}, "RUNTIME_JWT_ALGORITHMS"),
        ({"jwt_jwks_file": "keys.json", "jwt_algorithms": "HS256"}, "RUNTIME_JWT_ALGORITHMS"),
        ({"jwt_jwks_url": "http://x", "jwt_algorithms": "RS256,none"}, "RUNTIME_JWT_ALGORITHMS"),
        ({"jwt_jwks_url": "http://x", "jwt_jwks_file": "keys.json"}, "RUNTIME_JWT_JWKS_FILE"),
        ({"jwt_jwks_url": "http://x", "jwt_secret": "x" * 32}, "RUNTIME_JWT_JWKS_URL"),
        ({"jwt_jwks_url": "file:///keys"}, "RUNTIME_JWT_JWKS_URL"),
    ],
)
def test_algorithms_are_of_the_kind_of_the_keys(given: dict[str, str], refused: str) -> None:
    (problem,) = problems(**given)

    assert problem.startswith(f"{refused}: ")


def test_algorithms_are_pinned_even_when_none_is_named() -> None:
    assert Settings(jwt_secret="x" * 32).pinned_algorithms == ("HS256",)  # type: ignore[arg-type]
    assert Settings(jwt_jwks_url="https://x").pinned_algorithms == ("RS256", "ES256")


def test_values_out_of_range_are_listed_by_the_names_of_their_variables() -> None:
    found = problems(port=70_000, log_level="loud", OPENAI_BASE_URL="ftp://x", url="x")

    assert [line.partition(":")[0] for line in found] == [
        "RUNTIME_PORT",
        "RUNTIME_URL",
        "RUNTIME_LOG_LEVEL",
        "OPENAI_BASE_URL",
    ]
    assert "'DEBUG', 'INFO', 'WARNING'" in found[2]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql+psycopg://u:p@h:5432/d"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("postgresql:///d?host=/run/pg", "postgresql+psycopg:///d?host=/run/pg"),
        ("sqlite:///some/file.db", "sqlite+aiosqlite:///some/file.db"),
        ("sqlite:////some/file.db", "sqlite+aiosqlite:////some/file.db"),
        ("sqlite+aiosqlite:///file.db", "sqlite+aiosqlite:///file.db"),
    ],
)
def test_a_database_is_named_with_or_without_its_driver(given: str, used: str) -> None:
    assert Settings(database_url=given).database == used


def test_without_a_database_there_is_a_file_in_the_data_folder(folder: Path) -> None:
    expected = f"sqlite+aiosqlite:///{folder}/elsewhere/runtime.db"

    assert Settings(data_dir=Path("elsewhere")).database == expected


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "h/d", "sqlite://", "sqlite:///:memory:", "postgresql://h:port/d"]
)
def test_a_database_that_can_not_be_used_is_refused_with_the_forms_that_can(url: str) -> None:
    (problem,) = problems(database_url=url)

    assert problem.startswith("RUNTIME_DATABASE_URL: must be sqlite:///path/to/file or postgresql:")


def test_lists_are_separated_by_commas_and_folders_by_colons_too() -> None:
    settings = Settings(template_dirs="a:b , c", allowed_hosts="x.test, y.test")  # type: ignore[arg-type]

    assert settings.template_dirs == [Path("a"), Path("b"), Path("c")]
    assert settings.allowed_hosts == ["x.test", "y.test"]


def test_the_masked_settings_hold_no_secret() -> None:
    shown = Settings(
        token="token-of-the-platform",  # type: ignore[arg-type]
        secret_key="key-of-the-runtime",  # type: ignore[arg-type]
        openai_api_key="sk-secret",  # type: ignore[arg-type]
        openai_base_url="http://me:my-password@x.test/v1",
        database_url="postgresql://u:p@ss/word@h/d?password=again&x=1",
    ).masked()

    assert (shown["RUNTIME_TOKEN"], shown["OPENAI_API_KEY"]) == ("***", "***")
    assert shown["RUNTIME_SECRET_KEY"] == "***"
    assert shown["OPENAI_BASE_URL"] == "http://me:***@x.test/v1"
    assert shown["RUNTIME_DATABASE_URL"] == "postgresql+psycopg://u:***@h/d?password=***&x=1"
    assert shown["RUNTIME_PORT"] == 8000


def test_every_setting_is_documented_with_its_default() -> None:
    documented = re.findall(
        r"^\| `(\w+)` \| (?:`(.*?)`|.*?) \|",
        (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    defaults = {
        variable(name): f"./{value}"
        if isinstance(value, Path)
        else f"{value:g}"
        if isinstance(value, float)
        else ",".join(value)
        if isinstance(value, list)
        else str(value)
        for name, each in Settings.model_fields.items()
        if (value := each.default) not in (None, "", [])
    }

    assert {name for name, _ in documented} == {variable(name) for name in Settings.model_fields}
    assert {name: default for name, default in documented if default} == defaults
