from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.domain.errors import InvalidValue, SchemaVersionMismatch
from runtime.domain.services.templates import TemplateCatalog, TemplateInfo

SCHEMA_VERSION = "1.0.0"
"""Of the interface between platform and runtime; semver."""
BREAKING_CHANGES: Sequence[tuple[str, str]] = ()
"""(version that brought it, what it was)."""


@dataclass(frozen=True, slots=True)
class RuntimeSchema:
    version: str
    last_updated: datetime
    templates: Sequence[TemplateInfo]
    max_concurrent_agents: int
    max_message_length: int
    max_conversation_history: int


@dataclass(frozen=True)
class SchemaQueries:
    templates: TemplateCatalog
    started_at: datetime
    max_concurrent_agents: int
    max_message_length: int
    max_conversation_history: int

    def get(self, required: str | None) -> RuntimeSchema:
        """`required`: the version that the platform was made for.

        Raises SchemaVersionMismatch where it has another major number, or asks for more than
        there is.
        """
        if required is not None and not _serves(required):
            breaking = [text for since, text in BREAKING_CHANGES if since > required]
            raise SchemaVersionMismatch(SCHEMA_VERSION, required, breaking)
        return RuntimeSchema(
            version=SCHEMA_VERSION,
            last_updated=self.started_at,
            templates=self.templates.list(),
            max_concurrent_agents=self.max_concurrent_agents,
            max_message_length=self.max_message_length,
            max_conversation_history=self.max_conversation_history,
        )


def _serves(required: str) -> bool:
    ours, wanted = _numbers(SCHEMA_VERSION), _numbers(required)
    return ours[0] == wanted[0] and ours >= wanted


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.removeprefix("v").split(".")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise InvalidValue("Write a version as 1.0.0.", param="X-Schema-Version")
    return tuple(int(part) for part in (*parts, "0", "0")[:3])
