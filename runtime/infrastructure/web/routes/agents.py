from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic.json_schema import SkipJsonSchema

from runtime.application.commands.agents import (
    ApproveAgent,
    CreateAgent,
    DeleteAgent,
    NewVersion,
    RejectAgent,
    RevokeAgent,
    RollBackAgent,
    SubmitAgent,
    UpdateAgent,
)
from runtime.application.handlers.agents import (
    ApproveAgentHandler,
    Changed,
    CreateAgentHandler,
    DeleteAgentHandler,
    NewVersionHandler,
    RejectAgentHandler,
    RevokeAgentHandler,
    RollBackAgentHandler,
    SubmitAgentHandler,
    UpdateAgentHandler,
)
from runtime.application.queries.agents import AgentQueries
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.value_objects.agents import (
    AgentStatus,
    agent_id,
    line_id,
    version_number,
)
from runtime.domain.value_objects.ids import LineId, UserId
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.agents_wire import (
    AgentChanged,
    AgentCreate,
    AgentDeleted,
    AgentList,
    AgentOut,
    AgentUpdate,
    Approval,
    AuditList,
    DifferenceOut,
    NewVersionIn,
    Rejection,
    Revocation,
    RollBack,
)
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of

router = APIRouter(
    prefix="/v1/agents", tags=["Agents"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)

Queries = Annotated[AgentQueries, provided(lambda c: c.agent_queries())]
IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(alias="If-Match", description="The ETag of the state you read; a newer one → 412."),
]
CHANGE: dict[int | str, dict[str, Any]] = errors_of(409, 412, 413)
CONFIG: dict[int | str, dict[str, Any]] = errors_of(409, 412, 413, 422)


@router.post("", status_code=201, responses=CONFIG)
async def create_agent(
    body: AgentCreate,
    response: Response,
    caller: Caller,
    handle: Annotated[CreateAgentHandler, provided(lambda c: c.create_agent())],
) -> AgentChanged:
    """Fill a template's blanks. The agent begins as a draft unless `status` says more."""
    changed = await handle(
        CreateAgent(
            actor=caller,
            change=body.change(body.template_id),
            id=agent_id(body.id) if body.id is not None else None,
            slug=body.slug,
            line_id=line_id(body.agent_line_id) if body.agent_line_id is not None else None,
            number=version_number(body.version_number) if body.version_number else None,
            owner_id=UserId(body.owner_id) if body.owner_id is not None else None,
            submit=body.status in ("submitted", "pending"),
            publish=body.status == "published",
        )
    )
    response.headers["Location"] = f"/v1/agents/{changed.agent.id}"
    return _changed(changed, response, f"Agent '{changed.agent.slug}' created.")


@router.get("")
async def list_agents(
    caller: Caller,
    queries: Queries,
    status: Annotated[AgentStatus | None, Query()] = None,
    template_id: Annotated[str | None, Query(max_length=128)] = None,
    slug: Annotated[str | None, Query(max_length=64)] = None,
    agent_line_id: Annotated[str | None, Query(max_length=64)] = None,
    owner_id: Annotated[str | None, Query(max_length=128)] = None,
    type: Annotated[str | None, Query(max_length=64)] = None,
    q: Annotated[str | None, Query(max_length=128, description="Part of the name.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> AgentList:
    """Versions of every agent line, newest first."""
    where = AgentFilter(
        status=status,
        template_id=template_id,
        owner_id=UserId(owner_id) if owner_id else None,
        line_id=LineId(agent_line_id) if agent_line_id else None,
        slug=slug,
        agent_type=type,
        name_contains=q,
    )
    return AgentList.of(await queries.page(caller, where, limit=limit, after=after))


@router.get("/{id}")
async def get_agent(id: str, response: Response, caller: Caller, queries: Queries) -> AgentOut:
    """By id, or by what `model` accepts: `support`, `support@v1`, `support@draft`."""
    agent = await queries.get(caller, id)
    response.headers["ETag"] = agent.etag
    return AgentOut.of(agent)


@router.put("/{id}", responses=CONFIG)
async def update_agent(
    id: str,
    body: AgentUpdate,
    response: Response,
    caller: Caller,
    handle: Annotated[UpdateAgentHandler, provided(lambda c: c.update_agent())],
    if_match: IfMatch = None,
) -> AgentChanged:
    """Change a draft. Fields that are not sent stay; `template_config` is replaced whole."""
    command = UpdateAgent(
        actor=caller,
        agent=id,
        change=body.change(body.template_id),
        if_match=if_match,
    )
    return _changed(await handle(command), response, "Agent updated.")


@router.patch("/{id}", responses=CONFIG)
async def patch_agent(
    id: str,
    body: AgentUpdate,
    response: Response,
    caller: Caller,
    handle: Annotated[UpdateAgentHandler, provided(lambda c: c.update_agent())],
    if_match: IfMatch = None,
) -> AgentChanged:
    """Change a draft; of `template_config` too, only the fields that are sent."""
    command = UpdateAgent(
        actor=caller,
        agent=id,
        change=body.change(body.template_id),
        if_match=if_match,
        replace_config=False,
    )
    return _changed(await handle(command), response, "Agent updated.")


@router.delete("/{id}", responses=errors_of(412))
async def delete_agent(
    id: str,
    caller: Caller,
    handle: Annotated[DeleteAgentHandler, provided(lambda c: c.delete_agent())],
    if_match: IfMatch = None,
) -> AgentDeleted:
    """Remove a version, and its line with the last one. The audit trail stays."""
    await handle(DeleteAgent(actor=caller, agent=id, if_match=if_match))
    return AgentDeleted(agent_id=id, message="Agent deleted.")


@router.post("/{id}/submit", responses=CHANGE)
async def submit_agent(
    id: str,
    response: Response,
    caller: Caller,
    handle: Annotated[SubmitAgentHandler, provided(lambda c: c.submit_agent())],
    if_match: IfMatch = None,
) -> AgentChanged:
    """Put a draft into review."""
    changed = await handle(SubmitAgent(actor=caller, agent=id, if_match=if_match))
    return _changed(changed, response, "Agent submitted for review.")


@router.post("/{id}/approve", responses=CHANGE)
async def approve_agent(
    id: str,
    response: Response,
    caller: Caller,
    handle: Annotated[ApproveAgentHandler, provided(lambda c: c.approve_agent())],
    body: Approval | None = None,
    if_match: IfMatch = None,
) -> AgentChanged:
    """Publish a reviewed version: from now on the line's name leads to it."""
    command = ApproveAgent(
        actor=caller,
        agent=id,
        if_match=if_match,
        content_hash=body.content_hash if body else None,
    )
    changed = await handle(command)
    return _changed(changed, response, f"'{changed.agent.slug}' is now {changed.agent.version}.")


@router.post("/{id}/reject", responses=CHANGE)
async def reject_agent(
    id: str,
    body: Rejection,
    response: Response,
    caller: Caller,
    handle: Annotated[RejectAgentHandler, provided(lambda c: c.reject_agent())],
    if_match: IfMatch = None,
) -> AgentChanged:
    """Send a version back to its author, as a draft."""
    command = RejectAgent(actor=caller, agent=id, reason=body.reason, if_match=if_match)
    return _changed(await handle(command), response, "Agent rejected; it is a draft again.")


@router.post("/{id}/revoke", responses=CHANGE)
async def revoke_agent(
    id: str,
    response: Response,
    caller: Caller,
    handle: Annotated[RevokeAgentHandler, provided(lambda c: c.revoke_agent())],
    body: Revocation | None = None,
    if_match: IfMatch = None,
) -> AgentChanged:
    """Withdraw a version for good: nobody can call it any more."""
    command = RevokeAgent(
        actor=caller, agent=id, reason=body.reason if body else "", if_match=if_match
    )
    return _changed(await handle(command), response, "Agent revoked.")


@router.post("/{id}/rollback", responses=CHANGE)
async def roll_back_agent(
    id: str,
    response: Response,
    caller: Caller,
    handle: Annotated[RollBackAgentHandler, provided(lambda c: c.roll_back_agent())],
    body: RollBack | None = None,
) -> AgentChanged:
    """Publish an earlier version again. Answers with the version that is published now."""
    to = version_number(body.to) if body and body.to else None
    changed = await handle(RollBackAgent(actor=caller, agent=id, to=to))
    message = f"'{changed.agent.slug}' is {changed.agent.version} again."
    return _changed(changed, response, message)


@router.post("/{id}/versions", status_code=201, responses=CONFIG)
async def new_version(
    id: str,
    response: Response,
    caller: Caller,
    handle: Annotated[NewVersionHandler, provided(lambda c: c.new_version())],
    body: NewVersionIn | None = None,
) -> AgentChanged:
    """A new draft of the line with this version's content, and the changes that are sent.

    With another `template_version_id` the configuration is migrated.
    """
    body = body or NewVersionIn()
    command = NewVersion(actor=caller, agent=id, change=body.change(body.template_id))
    changed = await handle(command)
    response.headers["Location"] = f"/v1/agents/{changed.agent.id}"
    return _changed(changed, response, f"Version {changed.agent.version} created.")


@router.get("/{id}/versions")
async def list_versions(
    id: str, caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> AgentList:
    """All versions of the agent's line, newest first."""
    return AgentList.of(await queries.versions(caller, id, limit=limit, after=after))


@router.get("/{id}/diff")
async def diff_agents(
    id: str,
    caller: Caller,
    queries: Queries,
    against: Annotated[
        str | None,
        Query(
            max_length=200,
            description="An agent id or a version such as v1; unset: the published version.",
        ),
    ] = None,
) -> DifferenceOut:
    """What changed from `against` to this version, field by field."""
    return DifferenceOut.of(await queries.difference(caller, id, against))


@router.get("/{id}/audit")
async def audit_trail(
    id: str, caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> AuditList:
    """Who did what to the agent's line, newest first."""
    return AuditList.of(await queries.audit(caller, id, limit=limit, after=after))


def _changed(changed: Changed, response: Response, message: str) -> AgentChanged:
    response.headers["ETag"] = changed.agent.etag
    return AgentChanged.after(changed, message)
