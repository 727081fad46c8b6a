"""From what a caller wrote to a checked agent specification."""

from dataclasses import dataclass, replace

from runtime.application.commands.agents import AgentChange
from runtime.application.services.config_secrets import ConfigSecrets, Place, kept, marks
from runtime.domain.entities.agents import Agent
from runtime.domain.errors import InvalidValue
from runtime.domain.services.models import ModelServices
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
    models: ModelServices
    secrets: ConfigSecrets

    def new(self, change: AgentChange, place: Place) -> Drafted:
        if change.name is None:
            raise InvalidValue("A name is required.", param="name")
        if change.template_id is None:
            raise InvalidValue("A template is required.", param="template_id")
        info = self.templates.get(change.template_id, change.template_version)
        checked = self.templates.check(info.ref, change.config or {}, change.blanks)
        self.models.of(place.project_id).check(change.model)
        config, secrets = self.secrets.seal(checked, place)
        spec = AgentSpec(
            name=change.name,
            template=info.ref,
            config=config,
            secrets=secrets,
            model=change.model,
            description=change.description or "",
            avatar_url=change.avatar_url,
            agent_type=change.agent_type or info.agent_type,
            version_type=change.version_type or VersionType.RELEASE,
        )
        return Drafted(spec, tuple(checked.warnings))

    def changed(
        self, agent: Agent, change: AgentChange, place: Place, *, replace_config: bool
    ) -> Drafted:
        """The content of `agent` with the change, for the version at `place`."""
        spec = agent.spec
        if change.template_id not in (None, spec.template.id):
            return self.new(_filled(change, spec), place)
        version = change.template_version or spec.template.version
        target = self.templates.get(spec.template.id, version)
        opened = self.secrets.readable(agent)
        before = CheckedConfig(opened.config, secrets=tuple(opened.texts))
        warnings: tuple[str, ...] = ()
        if target.ref != spec.template:
            before = self.templates.migrate(before.config, target.ref, spec.template.version)
            warnings = (
                f"The template version changes from {spec.template.version} to "
                f"{target.ref.version}.",
            )
        checked = self._configured(target, before, change, replace_config)
        config, secrets = self.secrets.seal(checked, place, marks(opened, spec))
        if change.model is not None:
            self.models.of(place.project_id).check(change.model)
        new = replace(
            spec,
            name=change.name if change.name is not None else spec.name,
            template=target.ref,
            config=config,
            secrets=secrets,
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
        before: CheckedConfig,
        change: AgentChange,
        replace_config: bool,
    ) -> CheckedConfig:
        if change.config is not None:
            sent = kept(change.config, before.config, before.secrets)
            config = sent if replace_config else {**before.config, **sent}
            return self.templates.check(target.ref, config, change.blanks)
        unfilled = {
            name: value
            for name, value in before.config.items()
            if getattr(change.blanks, name, None) is None
        }
        return self.templates.check(target.ref, unfilled, change.blanks)


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
