"""OpenAI `/v1/models`: every agent the caller can call is a model."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runtime.application.queries.agents import AgentQueries
from runtime.application.services.catalogue import AgentCatalogue
from runtime.domain.entities.agents import Agent
from runtime.domain.errors import TemplateNotFound
from runtime.domain.services.templates import TemplateCatalog
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.openai.examples import OPENAI_ERRORS

router = APIRouter(prefix="/v1/models", tags=["OpenAI"])
Templates = Annotated[TemplateCatalog, provided(lambda c: c.templates())]


class Capabilities(BaseModel):
    """What a call may ask of the agent. What its model can do is the model's matter."""

    streaming: Literal[True] = True
    tools: bool = Field(description="Whether the caller's own `tools` are offered to the model.")
    structured_output: bool = Field(description="`response_format`")
    logprobs: bool
    stop: bool

    @classmethod
    def without(cls, refused: frozenset[str]) -> "Capabilities":
        return cls(
            tools="tools" not in refused,
            structured_output="response_format" not in refused,
            logprobs="logprobs" not in refused,
            stop="stop" not in refused,
        )


class Model(BaseModel):
    """OpenAI's four fields, then what the runtime adds."""

    id: str = Field(examples=["support"])
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds.", examples=[1790000000])
    owned_by: str = Field(examples=["local"])
    name: str = Field(examples=["Support"])
    description: str
    agent_id: str
    agent_type: str = Field(examples=["conversation"])
    version: str = Field(description="That answers now.", examples=["v7"])
    template: str = Field(examples=["react-agent@1.0.0"])
    capabilities: Capabilities | None = Field(
        description="null while the template is not installed: a call is refused then."
    )

    @classmethod
    def of(cls, agent: Agent, id: str, templates: TemplateCatalog) -> "Model":
        created, spec = agent.published_at or agent.created_at, agent.spec
        return cls(
            id=id,
            created=int(created.timestamp()),
            owned_by=agent.owner_id,
            name=spec.name,
            description=spec.description,
            agent_id=agent.id,
            agent_type=spec.agent_type,
            version=agent.version,
            template=str(spec.template),
            capabilities=_capabilities(agent, templates),
        )


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("", responses=OPENAI_ERRORS)
async def list_models(
    caller: Caller,
    agents: Annotated[AgentQueries, provided(lambda c: c.agent_queries())],
    templates: Templates,
) -> ModelList:
    """What the caller can name in `model` without a version."""
    published = await agents.models(caller)
    return ModelList(data=[Model.of(agent, agent.slug.value, templates) for agent in published])


# A path, so that a reference with a slash in it is an unknown model, not an unknown route.
@router.get("/{model:path}", responses=OPENAI_ERRORS)
async def retrieve_model(
    model: str,
    caller: Caller,
    catalogue: Annotated[AgentCatalogue, provided(lambda c: c.catalogue())],
    templates: Templates,
) -> Model:
    """By every form that `model` takes in a call: `support`, `support@v7`, an agent id."""
    return Model.of(await catalogue.resolve(model, caller), model, templates)


def _capabilities(agent: Agent, templates: TemplateCatalog) -> Capabilities | None:
    template = agent.spec.template
    try:
        return Capabilities.without(templates.get(template.id, template.version).refused)
    except TemplateNotFound:
        return None
