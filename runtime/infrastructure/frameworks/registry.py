"""The templates that can be used now, by id and version."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from packaging.version import Version
from pydantic import BaseModel

from runtime.domain.errors import FieldProblem, InvalidConfig, TemplateNotFound
from runtime.domain.services.templates import (
    CheckedConfig,
    FormField,
    FormSection,
    LoadProblem,
    PlatformBlanks,
    TemplateCatalog,
    TemplateInfo,
)
from runtime.domain.services.tools import ToolService
from runtime.domain.value_objects.agents import TemplateRef
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.config import secrets_of

Template = type[BaseAgentTemplate]


@dataclass(frozen=True, slots=True)
class Entry:
    template: Template
    info: TemplateInfo


class TemplateRegistry(TemplateCatalog):
    def __init__(self, tools: ToolService) -> None:
        self._tools = tools
        self._entries: dict[TemplateRef, Entry] = {}
        self._problems: dict[str, LoadProblem] = {}
        self._generations = itertools.count(1)

    def register(self, templates: Iterable[Template], source: str) -> None:
        """Put what `source` holds now in place of what it held before, all or nothing.

        An earlier version of a template that `source` still has stays: agents are pinned to it.
        Raises ValueError when a template is not usable, or belongs to another source.
        """
        fresh = {entry.info.ref: entry for entry in (self._entry(t, source) for t in templates)}
        for ref in fresh:
            owner = self._entries.get(ref)
            if owner and owner.info.source != source:
                raise ValueError(
                    f"{ref} is already there, from {owner.info.source}; raise template_version"
                )
        ids = {ref.id for ref in fresh}
        for ref in self._of(source):
            if ref.id not in ids:
                del self._entries[ref]
        self._entries.update(fresh)
        self._problems.pop(source, None)

    def unregister(self, source: str) -> None:
        for ref in self._of(source):
            del self._entries[ref]
        self._problems.pop(source, None)

    def report(self, source: str, error: str) -> None:
        """`source` does not load; what it gave before goes on serving."""
        known = self._problems.get(source)
        since = known.since if known and known.error == error else datetime.now(UTC)
        self._problems[source] = LoadProblem(source, error, since, self._of(source))

    def entry(self, ref: TemplateRef) -> Entry:
        """The version asked for or, when it is gone, the newest compatible one: a later version
        with the same major number. Raises TemplateNotFound."""
        if ref in self._entries:
            return self._entries[ref]
        wanted = Version(ref.version)
        later = [
            found
            for found in self._versions(ref.id)
            if Version(found.version).major == wanted.major and Version(found.version) > wanted
        ]
        if not later:
            raise TemplateNotFound(ref, [str(known) for known in self._versions(ref.id)])
        return self._entries[later[0]]

    def list(self) -> Sequence[TemplateInfo]:
        ids = sorted({ref.id for ref in self._entries})
        refs = [ref for id in ids for ref in self._versions(id)]
        return [self._with_tools(self._entries[ref].info) for ref in refs]

    def problems(self) -> Sequence[LoadProblem]:
        return [self._problems[source] for source in sorted(self._problems)]

    def get(self, id: str, version: str | None = None) -> TemplateInfo:
        versions = self._versions(id)
        if version is not None:
            ref = TemplateRef(id, version)
            if ref not in self._entries:
                raise TemplateNotFound(ref, [str(known) for known in versions])
            return self._with_tools(self._entries[ref].info)
        if not versions:
            raise TemplateNotFound(id, sorted({ref.id for ref in self._entries}))
        stable = [ref for ref in versions if not Version(ref.version).is_prerelease]
        return self._with_tools(self._entries[(stable or versions)[0]].info)

    def check(
        self,
        ref: TemplateRef,
        config: Mapping[str, object],
        blanks: PlatformBlanks = PlatformBlanks(),  # noqa: B008 - immutable
    ) -> CheckedConfig:
        template = self._entries[self.get(ref.id, ref.version).ref].template
        filled, warnings = _fill(template, config, blanks)
        result = template.validate_config(filled)
        if not result.valid:
            raise InvalidConfig(result.errors)
        parsed = template.Config.model_validate(dict(result.config))
        self._check_tools(template, parsed)
        return CheckedConfig(result.config, warnings, tuple(secrets_of(parsed)))

    def migrate(self, config: Mapping[str, object], to: TemplateRef, since: str) -> CheckedConfig:
        template = self._entries[self.get(to.id, to.version).ref].template
        return self.check(to, template.migrate_config(config, since))

    def _check_tools(self, template: Template, parsed: BaseModel) -> None:
        names = self._tools.names()
        problems = [
            FieldProblem(path, "There is no such tool", f"one of {', '.join(names)}", names)
            for path, name in template.granted_tools(parsed).items()
            if name not in names
        ]
        if problems:
            raise InvalidConfig(problems)

    def _entry(self, template: Template, source: str) -> Entry:
        metadata = template.get_metadata()
        info = TemplateInfo(
            ref=TemplateRef(metadata.template_id, metadata.template_version),
            name=metadata.template_name,
            description=metadata.template_description,
            framework=metadata.framework,
            agent_type=metadata.agent_type,
            json_schema=metadata.config_schema,
            sections=metadata.sections,
            source=source,
            refused=frozenset(template.unsupported_options),
            generation=next(self._generations),
        )
        return Entry(template, info)

    def _with_tools(self, info: TemplateInfo) -> TemplateInfo:
        """Its form offers the tools that are there now."""
        names = self._tools.names()

        def offered(field: FormField) -> FormField:
            if field.id == "tools" and field.type == "list" and not field.fields:
                return replace(field, options=names)
            return field

        def filled(section: FormSection) -> FormSection:
            return replace(section, fields=[offered(field) for field in section.fields])

        return replace(info, sections=[filled(section) for section in info.sections])

    def _of(self, source: str) -> Sequence[TemplateRef]:
        return [ref for ref, entry in self._entries.items() if entry.info.source == source]

    def _versions(self, id: str) -> Sequence[TemplateRef]:
        """Newest first."""
        refs = [ref for ref in self._entries if ref.id == id]
        return sorted(refs, key=lambda ref: Version(ref.version), reverse=True)


def _fill(
    template: Template, config: Mapping[str, object], blanks: PlatformBlanks
) -> tuple[dict[str, object], Sequence[str]]:
    """`config` with the platform's own fields in the template's blanks of the same meaning."""
    filled = dict(config)
    blank_names = template.Config.model_fields
    problems, warnings = [], []
    for name, value, outer in (
        ("system_prompt", blanks.system_prompt, "system_prompt"),
        ("tools", list(blanks.tools) if blanks.tools is not None else None, "toolsets"),
        ("history_messages", blanks.history_messages, "conversation_config"),
    ):
        if value is None:
            continue
        if name in blank_names:
            if name in filled and filled[name] != value:
                problems.append(
                    FieldProblem(name, f"It differs from `{outer}`", "the same value, or only one")
                )
            filled[name] = value
        elif name == "history_messages":
            warnings.append(f"{template.template_id} keeps no history: `{outer}` has no effect.")
        elif value:
            problems.append(
                FieldProblem(name, f"{template.template_id} has no blank for `{outer}`")
            )
    if problems:
        raise InvalidConfig(problems)
    return filled, warnings
