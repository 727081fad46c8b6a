import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from runtime.domain.errors import InvalidReference, InvalidValue
from runtime.domain.value_objects.ids import AgentId, LineId
from runtime.domain.value_objects.secrets import SealedSecret

MAX_SLUG = 64
_SLUG = re.compile(r"[^\W_]+(?:[-._][^\W_]+)*")
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,62}[A-Za-z0-9])?")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


class AgentStatus(StrEnum):
    """draft → submitted → published → revoked; a later publication makes it superseded."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


class VersionType(StrEnum):
    RELEASE = "release"
    BETA = "beta"
    """Callable by its owner only."""


@dataclass(frozen=True, slots=True)
class Slug:
    """The name of an agent line, as callers write it in `model`."""

    value: str

    def __post_init__(self) -> None:
        if (
            len(self.value) > MAX_SLUG
            or not _SLUG.fullmatch(self.value)
            or self.value != normalised(self.value)
        ):
            raise InvalidValue(
                f"A slug is 1-{MAX_SLUG} lower-case letters or digits, joined by single "
                "'-', '.' or '_'.",
                param="slug",
            )

    @classmethod
    def from_name(cls, name: str) -> "Slug":
        """`Customer Support` → `customer-support`; letters of every script are kept."""
        words = re.findall(r"[^\W_]+", normalised(name))
        slug = "-".join(words)[:MAX_SLUG].strip("-")
        if not slug:
            raise InvalidValue(
                "The name has no letter or digit to make a slug of; send a `slug`.", param="name"
            )
        return cls(slug)

    def __str__(self) -> str:
        return self.value


def normalised(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def checked_id(value: str, param: str) -> str:
    """An id chosen by the caller. Raises InvalidValue."""
    if not _ID.fullmatch(value):
        raise InvalidValue(
            "An id is 1-64 letters, digits or inner '.', '_', ':', '-'.", param=param
        )
    return value


def agent_id(value: str) -> AgentId:
    return AgentId(checked_id(value, "id"))


def line_id(value: str) -> LineId:
    return LineId(checked_id(value, "agent_line_id"))


def version_number(value: str) -> int:
    """`v7` → 7. Raises InvalidValue."""
    match = _VERSION.fullmatch(value)
    if not match:
        raise InvalidValue("A version number is written v1, v2, …", param="version_number")
    return int(match[1])


@dataclass(frozen=True, slots=True)
class ModelReference:
    """What `model` names: a slug, `slug@v7`, `slug@draft`, or one version by its agent id."""

    name: str
    version: int | None = None
    draft: bool = False

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Raises InvalidReference."""
        name, at, tag = text.strip().partition("@")
        if not name or len(name) > 128 or "\x00" in name:
            raise InvalidReference(
                "Name an agent: 'support', 'support@v7', 'support@draft' or an agent id.",
                param="model",
            )
        if not at:
            return cls(name)
        if tag == "draft":
            return cls(name, draft=True)
        match = _VERSION.fullmatch(tag)
        if not match:
            raise InvalidReference(
                f"After '@' comes a version such as v7, or draft: '{name}@v1'.", param="model"
            )
        return cls(name, version=int(match[1]))


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """One version of one template; `version` is semver."""

    id: str
    version: str

    def __str__(self) -> str:
        return f"{self.id}@{self.version}"


@dataclass(frozen=True)
class AgentSpec:
    """The reviewed content of a version: change any of it and it is another agent."""

    name: str
    template: TemplateRef
    config: Mapping[str, object]
    """With '***' in place of each secret."""
    model: str | None
    """A model of the model service (`openai/gpt-4.1-mini`); None is the operator's default."""
    description: str = ""
    avatar_url: str | None = None
    agent_type: str = "conversation"
    version_type: VersionType = VersionType.RELEASE
    secrets: Mapping[str, SealedSecret] = field(default_factory=dict)
    """Of the configuration, by JSON Pointer."""

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 128:
            raise InvalidValue("A name is 1-128 characters.", param="name")

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: other content, another fingerprint."""
        return self.content_hash[:10]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256, in hex, of what a reviewer approves, as canonical JSON."""
        content: dict[str, object] = {
            "name": self.name,
            "template": str(self.template),
            "config": self.config,
            "model": self.model,
            "description": self.description,
            "avatar_url": self.avatar_url,
            "agent_type": self.agent_type,
            "version_type": self.version_type,
        }
        if self.secrets:
            content["secrets"] = {at: kept.mark for at, kept in self.secrets.items()}
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
