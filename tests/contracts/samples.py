"""Entities to store, and the shortest way to store them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from runtime.domain.entities.agents import Agent, AgentLine
from runtime.domain.entities.audit import AuditEntry
from runtime.domain.entities.runs import Run, RunStatus, StepRecord, ToolRecord
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.agents import AgentSpec, AgentStatus, Slug, TemplateRef
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.identity import Scope
from runtime.domain.value_objects.ids import (
    AgentId,
    KeyId,
    LineId,
    ProjectId,
    RunId,
    UserId,
    new_agent_id,
    new_audit_id,
    new_line_id,
    new_run_id,
)

PROJECT = ProjectId("acme")
OTHER_PROJECT = ProjectId("globex")
ANN = UserId("ann")
BOB = UserId("bob")


def all_of(project: ProjectId, user: UserId = ANN) -> Scope:
    return Scope(project, user, sees_all=True, administers=True)


ALL = all_of(PROJECT)
NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def minutes_past_noon(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def a_spec(name: str = "Support", config: Mapping[str, object] | None = None) -> AgentSpec:
    return AgentSpec(
        name=name,
        template=TemplateRef("langgraph.chat", "1.2.0"),
        config={"depth": {"n": [1, 2]}} if config is None else config,
        model=None,
    )


def a_line(
    slug: str = "support", *, id: LineId | None = None, project: ProjectId = PROJECT
) -> AgentLine:
    return AgentLine(
        id=id or new_line_id(), slug=Slug(slug), project_id=project, owner_id=ANN, created_at=NOON
    )


def a_version(
    line: AgentLine,
    *,
    id: AgentId | None = None,
    spec: AgentSpec | None = None,
    owner: UserId = ANN,
    at: datetime = NOON,
) -> Agent:
    return line.new_version(
        id or new_agent_id(), spec or a_spec(), owner=owner, author=owner, at=at
    )


async def store(uow: UnitOfWorkFactory, line: AgentLine, *agents: Agent) -> None:
    """A new line with its versions, nothing left to announce."""
    async with uow(all_of(line.project_id)) as work:
        await work.lines.add(line)
        for agent in agents:
            agent.events.clear()
            await work.agents.add(agent)
        await work.commit()


def publish(line: AgentLine, agent: Agent) -> None:
    agent.status = AgentStatus.PUBLISHED
    line.published_id = agent.id


def an_entry(line: AgentLine, *, minute: float = 0, project: ProjectId = PROJECT) -> AuditEntry:
    return AuditEntry(
        id=new_audit_id(),
        at=minutes_past_noon(minute),
        actor_id=BOB,
        action="approve",
        agent_id=new_agent_id(),
        line_id=line.id,
        project_id=project,
        owner_id=ANN,
        before_hash="a" * 64,
        after_hash=None,
        before_status="submitted",
        after_status="published",
        detail={"comment": "fine 👍", "checks": [1, 2.5, None, True]},
    )


def a_run(
    *, id: RunId | None = None, minute: float = 0, duration_ms: float = 1500.25, **changes: object
) -> Run:
    run = Run(
        id=id or new_run_id(),
        agent_id=AgentId("agent_1"),
        line_id=LineId("line_1"),
        model="support@v7",
        project_id=PROJECT,
        owner_id=ANN,
        status=RunStatus.COMPLETED,
        finish_reason="stop",
        error_code=None,
        started_at=minutes_past_noon(minute),
        ended_at=minutes_past_noon(minute) + timedelta(milliseconds=duration_ms),
        first_token_ms=12.5,
        duration_ms=duration_ms,
        usage=Usage(2**40, 20, 3, 4),
        usage_estimated=True,
        models=("demo/echo", "openai/gpt-4.1-mini"),
        steps=(StepRecord("answer", "success", 10.5, 2),),
        tools=(ToolRecord("search", "error", 3.25),),
        session_id="session-1",
        metadata={"tags": ["a", "ü"], "n": 2**70},
        key_id=KeyId("key_1"),
        cost=Decimal("0.000000375"),
    )
    return replace(run, **changes)  # type: ignore[arg-type]
