import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from runtime.domain.errors import InvalidConfig
from runtime.domain.services.templates import (
    FormField,
    FormSection,
    LoadProblem,
    TemplateCatalog,
    TemplateInfo,
)
from runtime.domain.value_objects.identity import KeyScope
from runtime.domain.value_objects.secrets import masked
from runtime.infrastructure.web.auth import Caller, needs
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS

router = APIRouter(
    prefix="/v1/templates",
    tags=["Templates"],
    route_class=StrictRoute,
    responses=PLATFORM_ERRORS,
    dependencies=[needs(KeyScope.AGENTS_READ)],
)
Catalog = Annotated[TemplateCatalog, provided(lambda c: c.templates())]


class FieldOut(BaseModel):
    """One blank, in the platform's form vocabulary."""

    id: str
    type: str
    label: str
    description: str
    defaultValue: Any
    widget: Literal["password"] | None = Field(
        default=None, description="`password`: a secret; it is written and never shown."
    )
    validation: dict[str, Any] = Field(
        description="`required`, and where they apply `min`, `max`, `pattern`, `options`."
    )
    fields: list["FieldOut"] = []

    @classmethod
    def of(cls, field: FormField) -> "FieldOut":
        bounds = {
            "min": field.minimum,
            "max": field.maximum,
            "pattern": field.pattern,
            "options": list(field.options) if field.options is not None else None,
        }
        return cls(
            id=field.id,
            type=field.type,
            label=field.label,
            description=field.description,
            defaultValue=field.default,
            widget=field.widget,
            validation={
                "required": field.required,
                **{name: value for name, value in bounds.items() if value is not None},
            },
            fields=[cls.of(each) for each in field.fields],
        )


class SectionOut(BaseModel):
    id: str
    title: str
    description: str
    fields: list[FieldOut]

    @classmethod
    def of(cls, section: FormSection) -> "SectionOut":
        return cls(
            id=section.id,
            title=section.title,
            description=section.description,
            fields=[FieldOut.of(field) for field in section.fields],
        )


class TemplateOut(BaseModel):
    template_id: str
    template_name: str
    version: str
    description: str
    framework: str
    agent_type: str
    source: str
    configSchema: dict[str, Any] = Field(description="JSON Schema of `template_config`.")
    sections: list[SectionOut] = Field(description="The same as a form.")

    @classmethod
    def of(cls, info: TemplateInfo) -> "TemplateOut":
        return cls(
            template_id=info.ref.id,
            template_name=info.name,
            version=info.ref.version,
            description=info.description,
            framework=info.framework,
            agent_type=info.agent_type,
            source=info.source,
            configSchema=dict(info.json_schema),
            sections=[SectionOut.of(section) for section in info.sections],
        )


class TemplateDetail(TemplateOut):
    versions: list[str] = Field(description="All installed versions, newest first.")


class LoadProblemOut(BaseModel):
    source: str
    error: str
    since: datetime
    serving: list[str] = Field(description="Last good versions, still in use: `id@version`.")

    @classmethod
    def of(cls, problem: LoadProblem) -> "LoadProblemOut":
        return cls(
            source=problem.source,
            error=problem.error,
            since=problem.since,
            serving=[str(ref) for ref in problem.serving],
        )


class TemplateList(BaseModel):
    object: Literal["list"] = "list"
    data: list[TemplateOut]
    errors: list[LoadProblemOut] = Field(description="Template files that do not load, and why.")


class ConfigToCheck(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"template_config": {"company_name": "Acme"}}]},
    )

    template_config: dict[str, JsonValue] = {}
    version: str | None = Field(default=None, max_length=64)


class ProblemOut(BaseModel):
    path: str
    message: str
    expected: str | None
    allowed: list[str] | None


class ConfigChecked(BaseModel):
    valid: bool
    errors: list[ProblemOut] = []
    warnings: list[str] = []
    template_config: dict[str, Any] | None = Field(
        default=None, description="Complete, with defaults filled in; only when valid."
    )


@router.get("")
async def list_templates(caller: Caller, templates: Catalog) -> TemplateList:
    """Every installed version of every template, and the files that do not load."""
    return TemplateList(
        data=[TemplateOut.of(info) for info in templates.list()],
        errors=[LoadProblemOut.of(problem) for problem in templates.problems()],
    )


@router.get("/{template_id}")
async def get_template(template_id: str, caller: Caller, templates: Catalog) -> TemplateDetail:
    """The newest version."""
    return _detail(templates, templates.get(template_id))


@router.get("/{template_id}/{version}")
async def get_template_version(
    template_id: str, version: str, caller: Caller, templates: Catalog
) -> TemplateDetail:
    return _detail(templates, templates.get(template_id, version))


@router.post("/{template_id}/validate")
async def validate_config(
    template_id: str, body: ConfigToCheck, caller: Caller, templates: Catalog
) -> ConfigChecked:
    """Check a configuration without storing anything."""
    info = templates.get(template_id, body.version)
    try:
        checked = await asyncio.to_thread(templates.check, info.ref, body.template_config)
    except InvalidConfig as refused:
        return ConfigChecked(valid=False, errors=_problems(refused))
    return ConfigChecked(
        valid=True,
        warnings=list(checked.warnings),
        template_config=masked(checked.config, checked.secrets),
    )


def _detail(templates: TemplateCatalog, info: TemplateInfo) -> TemplateDetail:
    versions = [each.ref.version for each in templates.list() if each.ref.id == info.ref.id]
    return TemplateDetail(**TemplateOut.of(info).model_dump(), versions=versions)


def _problems(refused: InvalidConfig) -> list[ProblemOut]:
    return [
        ProblemOut(
            path=problem.path,
            message=problem.message,
            expected=problem.expected,
            allowed=list(problem.allowed) if problem.allowed is not None else None,
        )
        for problem in refused.problems
    ]
