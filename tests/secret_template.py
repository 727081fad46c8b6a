"""A template with secrets in its configuration, as a file of a template folder."""

from hashlib import sha256
from pathlib import Path

SOURCE = '''
from hashlib import sha256

from pydantic import BaseModel, Field, SecretStr, field_validator

from runtime.domain.events.runs import TextDelta
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.config import StrictConfig


class Endpoint(StrictConfig):
    url: str
    key: SecretStr


class Keeper(BaseAgentTemplate):
    """Says the fingerprints of its secrets."""

    template_id = "keeper"
    template_name = "Keeper"
    template_version = "VERSION"

    class Config(StrictConfig):
        FIELD: SecretStr = Field(min_length=12, title="The key")
        spare: SecretStr | None = None
        endpoints: list[Endpoint] = []
        tone: str = "dry"

        @field_validator("FIELD")
        @classmethod
        def _no_blanks(cls, value: SecretStr) -> SecretStr:
            if " " in value.get_secret_value():
                raise ValueError(f"{value.get_secret_value()} has a blank in it")
            return value

    @classmethod
    def migrate_config(cls, config, since):
        return {"FIELD" if name == "api_key" else name: each for name, each in config.items()}

    async def stream_execute(self, input):
        keys = [self.config.FIELD, *(each.key for each in self.config.endpoints)]
        yield TextDelta(" ".join(
            sha256(key.get_secret_value().encode()).hexdigest() for key in keys
        ))
'''


def write(folder: Path, version: str = "1.0.0", field: str = "api_key") -> Path:
    folder.mkdir(exist_ok=True)
    source = SOURCE.replace("VERSION", version).replace("FIELD", field)
    (folder / f"keeper_{version.replace('.', '_')}.py").write_text(source)
    return folder


def fingerprints(*secrets: str) -> str:
    """What the agent answers when these are its secrets."""
    return " ".join(sha256(secret.encode()).hexdigest() for secret in secrets)
