"""Gateway `/api/agents`: agents made of what they are to do, and looked up."""

from typing import Annotated

from fastapi import APIRouter, Query

from runtime.application.commands.agents import AssembleAgent
from runtime.application.handlers.assembly import AssembleAgentHandler
from runtime.application.queries.agents import AgentQueries
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.value_objects.agents import AgentStatus
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.gateway.agents_wire import AgentIn, AgentOut
from runtime.infrastructure.web.gateway.envelope import (
    GATEWAY_ERRORS,
    Envelope,
    Items,
    errors_of,
)
from runtime.infrastructure.web.requests import StrictRoute

router = APIRouter(
    prefix="/api/agents", tags=["Gateway"], route_class=StrictRoute, responses=GATEWAY_ERRORS
)
Queries = Annotated[AgentQueries, provided(lambda c: c.agent_queries())]


@router.post("", responses=errors_of(409, 413, 422))
async def assemble_agent(
    body: AgentIn,
    caller: Caller,
    handle: Annotated[AssembleAgentHandler, provided(lambda c: c.assemble_agent())],
) -> Envelope[AgentOut]:
    """Make an agent of a built-in template, or of `template_id`.

    It is published at once for who needs no reviewer, and else a draft that only its owner can
    call: `data.status` says which, `data.model` what to write in `model`.
    """
    made = await handle(AssembleAgent(actor=caller, change=body.change(), slug=body.slug))
    return Envelope.around(AgentOut.of(made.agent, made.warnings))


@router.get("")
async def list_assembled_agents(
    caller: Caller,
    queries: Queries,
    status: Annotated[AgentStatus | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> Envelope[Items[AgentOut]]:
    """Versions of every agent that the caller sees, newest first."""
    page = await queries.page(caller, AgentFilter(status=status), limit=limit, after=after)
    return Envelope.around(
        Items(
            items=[AgentOut.of(agent) for agent in page.items],
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
    )


@router.get("/{id}")
async def get_assembled_agent(id: str, caller: Caller, queries: Queries) -> Envelope[AgentOut]:
    """By id, or by what `model` accepts."""
    return Envelope.around(AgentOut.of(await queries.get(caller, id)))
