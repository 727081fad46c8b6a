"""The catalogue of templates, as the application sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from runtime.domain.value_objects.agents import TemplateRef

FieldType = Literal["checkbox", "number", "text", "textarea", "select", "list", "object"]


@dataclass(frozen=True, slots=True)
class FormField:
    id: str
    type: FieldType
    label: str
    description: str
    default: object
    required: bool
    minimum: float | None = None
    """Of the value for a number, of the length for a text or list."""
    maximum: float | None = None
    pattern: str | None = None
    options: Sequence[str] | None = None
    widget: Literal["password"] | None = None
    """`password`: a secret, which is written and never shown."""
    fields: Sequence["FormField"] = ()
    """Of an object, or of each item of a list of objects."""


@dataclass(frozen=True, slots=True)
class FormSection:
    id: str
    title: str
    description: str
    fields: Sequence[FormField]


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    """What a template says of itself; its form and its JSON Schema come from one `Config`."""

    ref: TemplateRef
    name: str
    description: str
    framework: str
    agent_type: str
    json_schema: Mapping[str, object]
    sections: Sequence[FormSection]
    source: str
    """Where it comes from: built-in, a distribution's name, or a file in a template folder."""
    refused: frozenset[str] = frozenset()
    """Parameters of a call that its agents can't honour."""
    generation: int = 0
    """Grows each time the code behind this version is loaded anew."""


@dataclass(frozen=True, slots=True)
class LoadProblem:
    """A template file that does not load. What it gave before goes on serving."""

    source: str
    error: str
    since: datetime
    serving: Sequence[TemplateRef] = ()
    """Last good versions from the same file."""


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    config: Mapping[str, object]
    """Complete: defaults filled in, JSON values only, secrets as they are."""
    warnings: Sequence[str] = ()
    secrets: Sequence[str] = ()
    """Where the secrets stand in `config`, as JSON Pointers."""


@dataclass(frozen=True, slots=True)
class PlatformBlanks:
    """Blanks that a platform fills outside `template_config`."""

    system_prompt: str | None = None
    history_messages: int | None = None
    tools: Sequence[str] | None = None


class TemplateCatalog(Protocol):
    def list(self) -> Sequence[TemplateInfo]:
        """By id, then newest version first."""

    def problems(self) -> Sequence[LoadProblem]: ...

    def get(self, id: str, version: str | None = None) -> TemplateInfo:
        """The version, or the newest that is no pre-release. Raises TemplateNotFound."""

    def check(
        self,
        ref: TemplateRef,
        config: Mapping[str, object],
        blanks: PlatformBlanks = PlatformBlanks(),
    ) -> CheckedConfig:
        """Raises TemplateNotFound; InvalidConfig with every field at fault."""

    def migrate(self, config: Mapping[str, object], to: TemplateRef, since: str) -> CheckedConfig:
        """A configuration made for version `since` of the same template, made to fit `to`.

        `config` has its secrets in it. Raises TemplateNotFound; InvalidConfig when it can't be.
        """
