"""OpenAI `/v1/models`: every agent the caller can call is a model."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runtime.application.queries.agents import AgentQueries
from runtime.application.services.catalogue import AgentCatalogue
from runtime.domain.entities.agents import Agent
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import provided
from runtime.infrastructure.web.openai.examples import OPENAI_ERRORS

router = APIRouter(prefix="/v1/models", tags=["OpenAI"])


class Model(BaseModel):
    id: str = Field(examples=["support"])
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds.", examples=[1790000000])
    owned_by: str = Field(examples=["local"])

    @classmethod
    def of(cls, agent: Agent, id: str) -> "Model":
        created = agent.published_at or agent.created_at
        return cls(id=id, created=int(created.timestamp()), owned_by=agent.owner_id)


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("", responses=OPENAI_ERRORS)
async def list_models(
    caller: Caller, agents: Annotated[AgentQueries, provided(lambda c: c.agent_queries())]
) -> ModelList:
    published = await agents.models(caller)
    return ModelList(data=[Model.of(agent, agent.slug.value) for agent in published])


@router.get("/{model}", responses=OPENAI_ERRORS)
async def retrieve_model(
    model: str,
    caller: Caller,
    catalogue: Annotated[AgentCatalogue, provided(lambda c: c.catalogue())],
) -> Model:
    """By every form that `model` takes in a call: `support`, `support@v7`, an agent id."""
    return Model.of(await catalogue.resolve(model, caller), model)
