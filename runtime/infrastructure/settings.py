"""What an operator sets, by environment, `.env` or `runtime.toml`; the first of these wins."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class Settings(BaseSettings):
    """Every name is read from the environment with the prefix `RUNTIME_`."""

    model_config = SettingsConfigDict(
        env_prefix="RUNTIME_",
        env_file=".env",
        toml_file="runtime.toml",
        extra="ignore",
        env_ignore_empty=True,
        validate_default=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data_dir: Path = Path("./var")
    database_url: str = ""
    """Empty: a SQLite file in `data_dir`."""
    template_dirs: Annotated[list[Path], NoDecode] = []
    """Separated by ':' (';' on Windows) or ','."""
    token: SecretStr | None = None
    """The platform's token; two, separated by a comma, are both accepted while one rotates in."""
    secret_key: SecretStr | None = None
    log_level: str = "INFO"
    allowed_egress: Annotated[list[str], NoDecode] = []
    allowed_hosts: Annotated[list[str], NoDecode] = []
    """Further names in the `Host` header that are ours, beside loopback and `host`."""

    default_model: str | None = None
    """`provider/name` for agents that name none; unset: openai when it is configured, else demo."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", validation_alias="OPENAI_BASE_URL"
    )
    openai_model: str = "gpt-4.1-mini"
    demo_token_delay_ms: float = Field(default=0, ge=0, le=60_000)

    max_body_bytes: int = Field(default=10_000_000, ge=1_000)
    max_concurrent_runs: int = Field(default=1_000, ge=1)
    max_concurrent_runs_per_agent: int = Field(default=500, ge=1)
    run_timeout_s: float = Field(default=600, gt=0)
    instance_cache_size: int = Field(default=256, ge=1)
    instance_idle_s: float = Field(default=900, gt=0)
    connect_timeout_s: float = Field(default=10, gt=0)
    first_token_timeout_s: float = Field(default=120, gt=0)
    idle_timeout_s: float = Field(default=60, gt=0)
    """Longest silence of a provider between two pieces of an answer."""
    model_attempts: int = Field(default=3, ge=1, le=10)
    """Tries of one model call, the first included; only before its first token."""

    @field_validator("template_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return _split(value.replace(os.pathsep, ",")) if isinstance(value, str) else value

    @field_validator("allowed_egress", "allowed_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return _split(value) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            TomlConfigSettingsSource(settings_cls),
        )

    @property
    def openai_configured(self) -> bool:
        return bool(self.openai_api_key) or "openai_base_url" in self.model_fields_set

    @property
    def tokens(self) -> tuple[str, ...]:
        secret = self.token.get_secret_value() if self.token else ""
        return tuple(part.strip() for part in secret.split(",") if part.strip())

    @property
    def database(self) -> str:
        """An SQLAlchemy URL with the async driver named."""
        url = self.database_url
        if not url:
            return f"sqlite+aiosqlite:///{self.data_dir.resolve()}/runtime.db"
        for given, driver in (
            ("postgresql://", "postgresql+psycopg://"),
            ("postgres://", "postgresql+psycopg://"),
            ("sqlite://", "sqlite+aiosqlite://"),
        ):
            if url.startswith(given):
                return driver + url.removeprefix(given)
        return url

    def masked(self) -> dict[str, Any]:
        """The effective values, secrets as '***'."""
        shown = {name: getattr(self, name) for name in type(self).model_fields}
        shown["database_url"] = _without_password(self.database)
        return {
            name: "***" if isinstance(value, SecretStr) else _plain(value)
            for name, value in shown.items()
        }


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)
