"""From what a caller wrote to a checked agent specification."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtime.application.commands.agents import AgentChange
from runtime.domain.errors import InvalidValue
from runtime.domain.services.models import ModelService
from runtime.domain.services.templates import CheckedConfig, TemplateCatalog, TemplateInfo
from runtime.domain.value_objects.agents import AgentSpec, VersionType


@dataclass(frozen=True, slots=True)
class Drafted:
    spec: AgentSpec
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drafting:
    """Raises TemplateNotFound, InvalidConfig, InvalidValue."""

    templates: TemplateCatalog
    models: ModelService

    def new(self, change: AgentChange) -> Drafted:
        if change.name is None:
            raise InvalidValue("A name is required.", param="name")
        if change.template_id is None:
            raise InvalidValue("A template is required.", param="template_id")
        info = self.templates.get(change.template_id, change.template_version)
        checked = self.templates.check(info.ref, change.config or {}, change.blanks)
        self.models.check(change.model)
        spec = AgentSpec(
            name=change.name,
            template=info.ref,
            config=checked.config,
            model=change.model,
            description=change.description or "",
            avatar_url=change.avatar_url,
            agent_type=change.agent_type or info.agent_type,
            version_type=change.version_type or VersionType.RELEASE,
        )
        return Drafted(spec, tuple(checked.warnings))

    def changed(self, spec: AgentSpec, change: AgentChange, *, replace_config: bool) -> Drafted:
        if change.template_id not in (None, spec.template.id):
            return self.new(_filled(change, spec))
        version = change.template_version or spec.template.version
        target = self.templates.get(spec.template.id, version)
        config = dict(spec.config)
        warnings: tuple[str, ...] = ()
        if target.ref != spec.template:
            config = dict(self.templates.migrate(config, target.ref, spec.template.version).config)
            warnings = (
                f"The template version changes from {spec.template.version} to "
                f"{target.ref.version}.",
            )
        checked = self._configured(target, config, change, replace_config)
        if change.model is not None:
            self.models.check(change.model)
        new = replace(
            spec,
            name=change.name if change.name is not None else spec.name,
            template=target.ref,
            config=checked.config,
            model=change.model if change.model is not None else spec.model,
            description=spec.description if change.description is None else change.description,
            avatar_url=spec.avatar_url if change.avatar_url is None else change.avatar_url,
            agent_type=change.agent_type or spec.agent_type,
            version_type=change.version_type or spec.version_type,
        )
        return Drafted(new, (*warnings, *checked.warnings))

    def _configured(
        self,
        target: TemplateInfo,
        config: Mapping[str, object],
        change: AgentChange,
        replace_config: bool,
    ) -> CheckedConfig:
        if change.config is not None:
            config = change.config if replace_config else {**config, **change.config}
            return self.templates.check(target.ref, config, change.blanks)
        kept = {
            name: value
            for name, value in config.items()
            if getattr(change.blanks, name, None) is None
        }
        return self.templates.check(target.ref, kept, change.blanks)


def _filled(change: AgentChange, spec: AgentSpec) -> AgentChange:
    """A change of template starts a new configuration and keeps the rest."""
    return replace(
        change,
        name=change.name if change.name is not None else spec.name,
        description=spec.description if change.description is None else change.description,
        avatar_url=spec.avatar_url if change.avatar_url is None else change.avatar_url,
        model=change.model if change.model is not None else spec.model,
        version_type=change.version_type or spec.version_type,
    )
