"""What an operator sets, by environment, `.env` or `runtime.toml`; the first of these wins."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from runtime.domain.value_objects.limits import LimitScope, Rates
from runtime.domain.value_objects.providers import PROVIDER_ID, Tuning
from runtime.infrastructure.provider_shapes import ProviderTable, formats_of

PREFIX = "RUNTIME_"
MIN_TOKEN = 8
MIN_SECRET_KEY = 16
_TOO_SHORT = "must have at least {} characters; make one with `openssl rand -hex 32`, or unset it"
JWT_BY_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""With the bytes that a secret needs (RFC 7518 §3.2)."""
JWT_BY_KEYS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
SECRETS = ("token", "secret_key", "jwt_secret")
_DATABASE = re.compile(r"sqlite(\+\w+)?:///(?!:memory:)[^?]|postgres(ql)?(\+\w+)?://.")

_PASSWORD = re.compile(r"^[^:]+://[^:@/?]*:(.*)@|password=([^&]*)")


class Settings(BaseSettings):
    """Every name is read from the environment with the prefix `RUNTIME_`.

    An empty value stands for the default and hides what the files say.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        toml_file="runtime.toml",
        dotenv_filtering="match_prefix",
        extra="forbid",
        validate_default=True,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0: any free one; it is printed."""
    url: str = ""
    """Where the command line finds the runtime; empty: on `host` and `port`."""
    data_dir: Path = Path("./var")
    database_url: str = ""
    """Empty: a SQLite file in `data_dir`."""
    template_dirs: Annotated[list[Path], NoDecode] = []
    """Separated by ':' (';' on Windows) or ','."""
    token: SecretStr | None = None
    """The platform's token; two, separated by a comma, are both accepted while one rotates in."""
    secret_key: SecretStr | None = None
    """Seals what is stored; unset: a key that the runtime makes and keeps in `data_dir`."""
    secret_key_previous: SecretStr | None = None
    """Earlier keys, separated by commas, until `agent-runtime secrets rotate` has run."""
    jwt_secret: SecretStr | None = None
    jwt_jwks_url: str = ""
    jwt_jwks_file: Path | None = None
    jwt_algorithms: Annotated[list[str], NoDecode] = []
    """Empty: HS256 with a secret, RS256 and ES256 with a key set."""
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_leeway_s: float = Field(default=30, ge=0, le=300)
    jwt_user_claim: str = "sub"
    jwt_project_claim: str = "project_id"
    jwt_roles_claim: str = "roles"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_file: Path | None = None
    """The log goes there too, as JSON lines, beside stderr."""
    log_max_bytes: int = Field(default=10_000_000, ge=1_000)
    """From this size on a log file is put aside and a new one begun."""
    log_backups: int = Field(default=5, ge=1, le=1_000)
    """How many log files that were put aside are kept."""
    otel_endpoint: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Base URL of the collector that gets the traces, over OTLP/HTTP; empty: there are none."""
    grace_s: int = Field(default=10, ge=0, le=3_600)
    """How long running answers may take to finish once the runtime is told to stop."""
    drain_delay_s: float = Field(default=0, ge=0, le=600)
    """How long new work is taken although /readyz says no: what a load balancer needs to see it."""
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
    openai_embedding_model: str = "text-embedding-3-small"
    openai_structured_output: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What of `response_format` the provider's models keep to by themselves."""
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com", validation_alias="ANTHROPIC_BASE_URL"
    )
    anthropic_model: str | None = None
    """Unset: the one that its adapter has for the usual one."""
    providers: dict[str, ProviderTable] = {}
    """Further ones, by their ids."""
    provider_key_variables: Annotated[list[str], NoDecode] = [
        "*_API_KEY",
        "HF_TOKEN",
        "HUGGINGFACE_TOKEN",
    ]
    """Patterns of the variables that a registration may name as its key."""
    provider_max_concurrency: int | None = Field(default=None, ge=1)
    """Calls of one provider at once, in this process; unset: as many as come."""
    breaker_threshold: int = Field(default=5, ge=1, le=1_000)
    """After how many failures in a row a model is left alone."""
    breaker_recovery_s: float = Field(default=30, gt=0, le=3_600)
    """How long, before one call tries it again."""
    demo_token_delay_ms: float = Field(default=0, ge=0, le=60_000)

    max_body_bytes: int = Field(default=10_000_000, ge=1_000)
    max_header_bytes: int = Field(default=65_536, ge=1_000)
    """The request line and all headers together."""
    header_timeout_s: float = Field(default=10, gt=0)
    """How long a request line and its headers may take to come."""
    body_timeout_s: float = Field(default=30, gt=0)
    """How long a body may take to come, beside a second for every 20 kB."""
    send_timeout_s: float = Field(default=30, gt=0)
    """How long a client may leave unread what was sent to it."""
    keep_alive_s: int = Field(default=75, ge=1)
    """How long a connection may be idle; 60 s is common for proxies, whose side should close."""
    max_connections: int = Field(default=4_096, ge=1)
    max_connections_per_client: int = Field(default=1_024, ge=1)
    """From one address; behind a proxy that is everybody."""
    ws_max_frame_bytes: int = Field(default=1_000_000, ge=1_000)
    """Of one message that a WebSocket client sends."""
    ws_max_frames_per_s: int = Field(default=100, ge=1)
    """That one WebSocket client sends, pings and fragments included."""
    ws_max_requests: int = Field(default=16, ge=1)
    """That go on at once in one WebSocket connection."""
    ws_max_connections_per_user: int = Field(default=512, ge=1)
    ws_idle_s: float = Field(default=900, gt=0)
    """How long a WebSocket may be open in which nothing goes on and nothing is said."""
    stream_resume_s: float = Field(default=60, gt=0, le=3_600)
    """How long a resumable stream goes on, or stays, that nobody reads."""
    stream_resume_buffer_bytes: int = Field(default=1_000_000, ge=10_000)
    """Of the events that it keeps for who comes back."""
    max_resumable_streams: int = Field(default=500, ge=1)
    role: Literal["all", "api", "worker"] = "all"
    """`api` takes orders for durable runs and leaves them to others; `worker` carries them out and
    serves nothing but health and metrics."""
    max_queued_runs_per_user: int = Field(default=1_000, ge=1)
    """Durable runs of one user that wait to be begun; one more is refused."""
    dispatcher: Literal["database", "inline", "dbos"] = "database"
    """What brings durable runs to processes: their table, this process alone, DBOS Transact."""
    max_durable_runs: int = Field(default=64, ge=1)
    """That go on at once in this process; the others are queued."""
    max_durable_runs_per_user: int | None = Field(default=None, ge=1)
    """Over all processes; unset: as many as there is room for."""
    max_durable_runs_per_agent: int | None = Field(default=None, ge=1)
    """The same for the versions of one agent together."""
    max_concurrent_runs: int = Field(default=1_000, ge=1)
    max_concurrent_runs_per_agent: int = Field(default=500, ge=1)
    max_concurrent_runs_per_user: int = Field(default=500, ge=1)
    rate_limit_key_requests_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_key_tokens_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_key_concurrent_runs: int | None = Field(default=None, ge=1)
    rate_limit_project_requests_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_project_tokens_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_project_concurrent_runs: int | None = Field(default=None, ge=1)
    rate_limit_agent_requests_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_agent_tokens_per_minute: int | None = Field(default=None, ge=1)
    rate_limit_agent_concurrent_runs: int | None = Field(default=None, ge=1)
    """These nine: of every one that has no limit of its own; unset: as much as comes."""
    run_timeout_s: float = Field(default=600, gt=0)
    idempotency_retention_s: float = Field(default=86_400, gt=0)
    """How long the answer to a request with an `Idempotency-Key` is kept."""
    idempotency_lease_s: float = Field(default=15, ge=1)
    """How long such a key stays taken when the process that holds it is killed."""
    max_idempotent_answer_bytes: int = Field(default=10_000_000, ge=1_000)
    """Larger answers are not kept."""
    session_conflict: Literal["wait", "refuse"] = "wait"
    """What a turn does while another one of its session goes on."""
    session_wait_s: float = Field(default=30, gt=0, le=600)
    """How long it waits at most."""
    session_retention_days: float = Field(default=90, ge=0, le=36_500)
    """How long a conversation is kept that nothing is added to; 0: for good."""
    completion_retention_days: float = Field(default=30, ge=0, le=36_500)
    """How long chat completions made with `store` are kept; 0: for good."""
    run_retention_days: float = Field(default=90, ge=0, le=36_500)
    """How long runs that have ended are kept, with their events; 0: for good."""
    response_retention_days: float = Field(default=30, ge=0, le=36_500)
    """How long responses are kept; 0: for good."""
    max_schedules_per_user: int = Field(default=100, ge=0, le=100_000)
    schedule_retention_days: float = Field(default=30, ge=0, le=36_500)
    """How long it is kept what became of a schedule's ticks; 0: for good."""
    max_memories_per_user: int = Field(default=10_000, ge=1)
    """Of what agents know from earlier runs."""
    checkpoint_retention_days: float = Field(default=7, ge=0, le=36_500)
    """How long one can go back to the steps of a durable run that has ended; 0: for good."""
    webhook_retention_days: float = Field(default=30, ge=0, le=36_500)
    """How long deliveries of webhooks that have ended are kept, the dead ones too; 0: for good."""
    instance_cache_size: int = Field(default=256, ge=1)
    instance_idle_s: float = Field(default=900, gt=0)
    connect_timeout_s: float = Field(default=10, gt=0)
    first_token_timeout_s: float = Field(default=60, gt=0)
    answer_timeout_s: float = Field(default=300, gt=0)
    """Longest wait for an answer that a provider sends in one piece."""
    idle_timeout_s: float = Field(default=60, gt=0)
    """Longest silence of a provider between two pieces of an answer."""
    model_timeout_s: float = Field(default=600, gt=0)
    """Longest streamed answer as a whole."""
    model_attempts: int = Field(default=3, ge=1, le=10)
    """Tries of one model call, the first included; only before its first token."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: dict[str, Any]) -> dict[str, Any]:
        # An empty secret is not dropped: whoever sets one does not mean "let everybody in".
        return {name: value for name, value in values.items() if value != "" or name in SECRETS}

    @field_validator("template_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return _split(value.replace(os.pathsep, ",")) if isinstance(value, str) else value

    @field_validator(
        "allowed_egress",
        "allowed_hosts",
        "jwt_algorithms",
        "provider_key_variables",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: object) -> object:
        return _split(value) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("token", "secret_key", "secret_key_previous")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            least = MIN_TOKEN if info.field_name == "token" else MIN_SECRET_KEY
            text = value.get_secret_value()
            each = [text] if info.field_name == "secret_key" else text.split(",")
            if min(len(part.strip()) for part in each) < least:
                raise ValueError(_TOO_SHORT.format(least))
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _strong_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _bytes_of(value) < min(JWT_BY_SECRET.values()):
            raise ValueError(
                f"must have at least {min(JWT_BY_SECRET.values())} bytes; "
                "make one with `openssl rand -hex 32`, or unset it"
            )
        return value

    @field_validator("jwt_jwks_url", "jwt_jwks_file")
    @classmethod
    def _only_source(cls, value: object, others: ValidationInfo) -> object:
        """One kind of key: whoever mixes them takes a public key for a secret."""
        if value and (others.data.get("jwt_secret") or others.data.get("jwt_jwks_url")):
            raise ValueError("is one of three ways to check a JWT; set only one")
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _of_the_keys_kind(cls, value: list[str], others: ValidationInfo) -> list[str]:
        secret: SecretStr | None = others.data.get("jwt_secret")
        allowed = JWT_BY_SECRET if secret else JWT_BY_KEYS
        if any(name not in allowed for name in value):
            raise ValueError(f"must be of {', '.join(allowed)}, for these keys")
        if secret and any(_bytes_of(secret) < JWT_BY_SECRET[name] for name in value):
            raise ValueError("asks for a longer RUNTIME_JWT_SECRET: 48 bytes or 64")
        return value

    @field_validator("providers")
    @classmethod
    def _with_names_of_their_own(cls, value: dict[str, ProviderTable]) -> dict[str, ProviderTable]:
        for name in value:
            if not PROVIDER_ID.fullmatch(name):
                raise ValueError("a provider's name is 1-64 letters, digits or inner '.', '_', '-'")
            if name == "demo":
                raise ValueError("'demo' is there already; choose another name")
        return value

    @field_validator(
        "url", "openai_base_url", "anthropic_base_url", "jwt_jwks_url", "otel_endpoint"
    )
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not _is_http(value):
            raise ValueError("must be an address that begins with http:// or https://")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not _is_database(value):
            raise ValueError(
                "must be sqlite:///path/to/file or postgresql://user:password@host:5432/name"
            )
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _TomlFile(settings_cls)

    @property
    def openai_configured(self) -> bool:
        return bool(self.openai_api_key) or "openai_base_url" in self.model_fields_set

    @property
    def openai_formats(self) -> frozenset[str]:
        return formats_of(self.openai_structured_output) or frozenset()

    @property
    def anthropic_configured(self) -> bool:
        return bool(self.anthropic_api_key) or "anthropic_base_url" in self.model_fields_set

    @property
    def model_tuning(self) -> Tuning:
        """What holds for providers that have nothing of their own; complete."""
        return Tuning(
            connect_s=self.connect_timeout_s,
            first_token_s=self.first_token_timeout_s,
            idle_s=self.idle_timeout_s,
            answer_s=self.answer_timeout_s,
            total_s=self.model_timeout_s,
            attempts=self.model_attempts,
            max_concurrency=self.provider_max_concurrency,
            breaker_threshold=self.breaker_threshold,
            breaker_recovery_s=self.breaker_recovery_s,
        )

    @property
    def tokens(self) -> tuple[str, ...]:
        secret = self.token.get_secret_value() if self.token else ""
        return tuple(part.strip() for part in secret.split(",") if part.strip())

    @property
    def secrets(self) -> list[str]:
        """Every value that no log may show."""
        tables = self.providers.values()
        keys = [
            self.secret_key,
            self.secret_key_previous,
            self.openai_api_key,
            self.anthropic_api_key,
            self.jwt_secret,
            *(table.api_key for table in tables),
        ]
        texts = [key.get_secret_value() for key in keys if key]
        texts += [os.environ.get(table.api_key_env or "", "") for table in tables]
        urls = (
            self.database_url,
            self.openai_base_url,
            self.anthropic_base_url,
            self.url,
            *(table.base_url or "" for table in tables),
        )
        passwords = [each for url in urls for found in _PASSWORD.findall(url) for each in found]
        each = [part for text in texts for part in (text, *text.split(","))]
        return list(filter(None, [*self.tokens, *each, *passwords, *map(unquote, passwords)]))

    @property
    def pinned_algorithms(self) -> tuple[str, ...]:
        default = ("HS256",) if self.jwt_secret else ("RS256", "ES256")
        return tuple(self.jwt_algorithms) or default

    @property
    def refuses_busy_sessions(self) -> bool:
        return self.session_conflict == "refuse"

    @property
    def has_credential(self) -> bool:
        """Whether some credential is configured; there may be API keys in the database too."""
        jwt = self.jwt_secret or self.jwt_jwks_url or self.jwt_jwks_file
        return bool(self.tokens or jwt)

    @property
    def default_rates(self) -> dict[LimitScope, Rates]:
        return {
            scope: Rates(
                *(
                    getattr(self, f"rate_limit_{scope}_{kind}")
                    for kind in ("requests_per_minute", "tokens_per_minute", "concurrent_runs")
                )
            )
            for scope in LimitScope
        }

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
        """The effective values by the names of their environment variables, secrets as '***'."""
        shown = {name: getattr(self, name) for name in type(self).model_fields}
        shown["database_url"] = _without_password(self.database)
        shown["openai_base_url"] = _without_password(self.openai_base_url)
        shown["anthropic_base_url"] = _without_password(self.anthropic_base_url)
        shown["url"] = _without_password(self.url)
        shown["jwt_jwks_url"] = _without_password(self.jwt_jwks_url)
        shown["otel_endpoint"] = _without_password(self.otel_endpoint)
        return {variable(name): _plain(value) for name, value in shown.items()}


class _TomlFile(TomlConfigSettingsSource):
    """Names as they are here or as in the environment, at the top or under `[runtime]`."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:  # noqa: ANN401 - as in the base
        try:
            content = super()._read_file(file_path)
        except ValueError as error:
            raise SettingsError(f"{file_path} is not valid TOML: {error}") from error
        table = content.pop("runtime", {})
        if not isinstance(table, dict):
            table = {"runtime": table}
        return {
            name.lower().removeprefix(PREFIX.lower()): value
            for name, value in {**content, **table}.items()
        }


def variable(field: str) -> str:
    """`port` → `RUNTIME_PORT`."""
    known = Settings.model_fields.get(field)
    alias = known.validation_alias if known else None
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def explained(error: ValidationError) -> list[str]:
    """One line for each setting that is wrong; the values, which may be secrets, are in none."""
    return [_line(problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like a setting and are none.

    Only near misses: an orchestrator puts names of its own under any prefix.
    """
    known = [variable(name) for name in Settings.model_fields]
    return [
        f"{name} is not a setting; did you mean {near}?"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and (near := _nearest(name))
    ]


def _line(location: Iterable[int | str], kind: str, message: str) -> str:
    field, *rest = (str(part) for part in location) if location else ("",)
    # pydantic reports an aliased field by its alias.
    name = field if field.isupper() else variable(field)
    if kind == "extra_forbidden" and not rest:
        near = _nearest(name)
        return f"{name}: there is no such setting{f'; did you mean {near}?' if near else ''}"
    at = ".".join([name, *rest])
    return f"{at}: {message.removeprefix('Value error, ')}"


def _nearest(name: str) -> str | None:
    known = [variable(each) for each in Settings.model_fields]
    return next(iter(difflib.get_close_matches(name, known, 1, 0.85)), None)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bytes_of(secret: SecretStr) -> int:
    return len(secret.get_secret_value().encode())


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, ProviderTable):
        shown = {name: _plain(each) for name, each in value.model_dump(exclude_unset=True).items()}
        if value.base_url:
            shown["base_url"] = _without_password(value.base_url)
        return shown
    return str(value) if isinstance(value, Path) else value


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_database(url: str) -> bool:
    try:
        return _DATABASE.match(url) is not None and urlsplit(url).port != 0
    except ValueError:
        return False


def _without_password(url: str) -> str:
    """Hides too much rather than too little of an address that is oddly written."""
    hidden = re.sub(r"^([^:]+://[^:@/?]*):.*@", r"\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", hidden)
