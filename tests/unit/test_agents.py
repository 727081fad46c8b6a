"""The life cycle of an agent, from draft to rollback, on memory."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count

import pytest

from runtime.application.commands.agents import (
    AgentChange,
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
from runtime.application.handlers import agents as handlers
from runtime.application.queries.agents import AgentQueries
from runtime.application.services.config_secrets import ConfigSecrets
from runtime.application.services.drafting import Drafting
from runtime.domain.entities.agents import Agent
from runtime.domain.errors import (
    AgentNotFound,
    Forbidden,
    InvalidConfig,
    InvalidValue,
    NameTaken,
    StaleVersion,
    TransitionRefused,
    VersionExists,
)
from runtime.domain.events.agents import AgentCreated, AgentPublished, AgentSuperseded
from runtime.domain.repositories.agents import AgentFilter
from runtime.domain.value_objects.agents import AgentStatus, VersionType
from runtime.domain.value_objects.identity import LOCAL_ADMIN, KeyScope, Principal, Role
from runtime.domain.value_objects.ids import AgentId, LineId, UserId
from runtime.infrastructure.secrets import SecretBox
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_runs import OnlyDemo, TwoTemplates

ANN = Principal(UserId("ann"), roles=frozenset({Role.EDITOR}))
BEN = Principal(UserId("ben"), roles=frozenset({Role.EDITOR}))
ROB = Principal(UserId("rob"), roles=frozenset({Role.EDITOR, Role.REVIEWER}))
ADA = Principal(UserId("ada"), roles=frozenset({Role.ADMIN}))
EVE = Principal(UserId("eve"), roles=frozenset({Role.VIEWER}))
BOT = AgentChange(name="Support Bot", template_id="bot", template_version="1.0.0")


class Desk:
    """Everything a team does with agents."""

    def __init__(self) -> None:
        self.published = Published()
        self.uow = partial(memory_unit_of_work, MemoryStore(), self.published)
        seconds = count()
        self._now = lambda: datetime.fromtimestamp(1_800_000_000 + next(seconds), UTC)
        self._drafting = Drafting(TwoTemplates(), OnlyDemo(), ConfigSecrets(SecretBox(b"k" * 32)))
        self.queries = AgentQueries(self.uow, TwoTemplates())

    async def create(self, **fields: object) -> Agent:
        command = {"actor": ANN, "change": BOT, **fields}
        handle = handlers.CreateAgentHandler(self.uow, self._now, self._drafting)
        return (await handle(CreateAgent(**command))).agent  # type: ignore[arg-type]

    async def update(self, agent: Agent, change: AgentChange, **fields: object) -> Agent:
        handle = handlers.UpdateAgentHandler(self.uow, self._now, self._drafting)
        command = {"actor": ANN, "agent": agent.id, "change": change, **fields}
        return (await handle(UpdateAgent(**command))).agent  # type: ignore[arg-type]

    async def submit(self, agent: Agent, actor: Principal = ANN) -> Agent:
        handle = handlers.SubmitAgentHandler(self.uow, self._now)
        return (await handle(SubmitAgent(actor=actor, agent=agent.id))).agent

    async def approve(self, agent: Agent, actor: Principal = ROB, **fields: str) -> Agent:
        handle = handlers.ApproveAgentHandler(self.uow, self._now)
        return (await handle(ApproveAgent(actor=actor, agent=agent.id, **fields))).agent

    async def reject(self, agent: Agent, reason: str, actor: Principal = ROB) -> Agent:
        handle = handlers.RejectAgentHandler(self.uow, self._now)
        return (await handle(RejectAgent(actor=actor, agent=agent.id, reason=reason))).agent

    async def revoke(self, agent: Agent) -> Agent:
        handle = handlers.RevokeAgentHandler(self.uow, self._now)
        return (await handle(RevokeAgent(actor=ROB, agent=agent.id))).agent

    async def roll_back(self, agent: Agent, to: int | None = None) -> Agent:
        handle = handlers.RollBackAgentHandler(self.uow, self._now)
        return (await handle(RollBackAgent(actor=ROB, agent=agent.id, to=to))).agent

    async def new_version(
        self, agent: Agent, change: AgentChange | None = None, actor: Principal = ANN
    ) -> Agent:
        handle = handlers.NewVersionHandler(self.uow, self._now, self._drafting)
        command = NewVersion(actor=actor, agent=agent.id, change=change or AgentChange())
        return (await handle(command)).agent

    async def delete(self, agent: Agent, actor: Principal = ROB) -> None:
        handle = handlers.DeleteAgentHandler(self.uow, self._now)
        await handle(DeleteAgent(actor=actor, agent=agent.id))

    async def release(self, agent: Agent) -> Agent:
        await self.submit(agent)
        return await self.approve(agent)

    async def status(self, agent: Agent) -> AgentStatus:
        return (await self.queries.get(ROB, agent.id)).status

    async def trail(self, agent: Agent) -> list[str]:
        page = await self.queries.audit(ANN, agent.id, limit=100, after=None)
        return [entry.action for entry in reversed(page.items)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_an_agent_begins_as_a_draft_with_its_defaults_filled_in(desk: Desk) -> None:
    agent = await desk.create()

    assert (agent.status, agent.version, agent.slug.value) == ("draft", "v1", "support-bot")
    assert agent.spec.config == {"greeting": "Hello"}
    assert [type(event) for event in desk.published] == [AgentCreated]


async def test_a_bad_field_is_refused_and_nothing_is_stored(desk: Desk) -> None:
    bad = AgentChange(name="X", template_id="bot", config={"tone": "rude"})
    with pytest.raises(InvalidConfig, match=r"template_config\.tone"):
        await desk.create(change=bad)

    page = await desk.queries.page(ANN, AgentFilter(), limit=10, after=None)
    assert not page.items


async def test_a_taken_slug_is_refused(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(NameTaken):
        await desk.create()


async def test_an_unknown_model_is_refused(desk: Desk) -> None:
    change = AgentChange(name="X", template_id="bot", model="nobody/knows")
    with pytest.raises(InvalidValue, match="nobody/knows"):
        await desk.create(change=change)


async def test_a_viewer_creates_nothing(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        await desk.create(actor=EVE)


async def test_review_publishes_and_the_next_version_supersedes(desk: Desk) -> None:
    first = await desk.release(await desk.create())
    second = await desk.release(await desk.new_version(first))

    assert (second.version, second.status) == ("v2", AgentStatus.PUBLISHED)
    assert await desk.status(first) is AgentStatus.SUPERSEDED
    assert {type(e) for e in desk.published[-2:]} == {AgentSuperseded, AgentPublished}


async def test_an_author_does_not_review_their_own_work(desk: Desk) -> None:
    agent = await desk.create(actor=ROB)
    await desk.submit(agent, actor=ROB)
    with pytest.raises(Forbidden, match="other than the author"):
        await desk.approve(agent, actor=ROB)


async def test_the_local_admin_may_and_the_trail_says_so(desk: Desk) -> None:
    agent = await desk.create(actor=LOCAL_ADMIN, publish=True)

    page = await desk.queries.audit(LOCAL_ADMIN, agent.id, limit=1, after=None)
    assert page.items[0].action == "approve"
    assert page.items[0].detail["self_approved"] is True


async def test_publishing_at_creation_needs_the_right_to_approve(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        await desk.create(actor=ANN, publish=True)

    with pytest.raises(AgentNotFound):
        await desk.queries.get(ANN, "support-bot@v1")


async def test_an_edit_takes_a_submitted_agent_out_of_review(desk: Desk) -> None:
    agent = await desk.create()
    await desk.submit(agent)
    edited = await desk.update(agent, AgentChange(config={"greeting": "Hi"}))

    assert edited.status is AgentStatus.DRAFT
    with pytest.raises(TransitionRefused):
        await desk.approve(agent)


async def test_approval_of_something_else_than_was_read_is_refused(desk: Desk) -> None:
    agent = await desk.create()
    await desk.submit(agent)
    with pytest.raises(StaleVersion):
        await desk.approve(agent, content_hash="0" * 64)


async def test_what_was_reviewed_is_never_edited(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    with pytest.raises(TransitionRefused, match="new version"):
        await desk.update(agent, AgentChange(name="Other"))


async def test_a_rejected_agent_is_a_draft_that_says_why(desk: Desk) -> None:
    agent = await desk.create()
    await desk.submit(agent)
    rejected = await desk.reject(agent, "Too casual.")

    assert (rejected.status, rejected.rejection) == (AgentStatus.DRAFT, "Too casual.")


async def test_a_stale_etag_changes_nothing(desk: Desk) -> None:
    agent = await desk.create()
    old = agent.etag
    await desk.update(agent, AgentChange(config={"greeting": "Hi"}), if_match=old)

    with pytest.raises(StaleVersion):
        await desk.update(agent, AgentChange(config={"greeting": "Yo"}), if_match=old)
    assert (await desk.queries.get(ANN, agent.id)).spec.config == {"greeting": "Hi"}


async def test_rollback_publishes_the_version_before_in_one_call(desk: Desk) -> None:
    first = await desk.release(await desk.create())
    second = await desk.release(await desk.new_version(first))
    third = await desk.release(await desk.new_version(second))

    assert (await desk.roll_back(third)).id == second.id
    assert (await desk.roll_back(second)).id == first.id
    assert await desk.status(third) is AgentStatus.SUPERSEDED
    assert (await desk.roll_back(first, to=3)).id == third.id


async def test_a_superseded_version_is_rolled_back_to_by_its_own_id(desk: Desk) -> None:
    first = await desk.release(await desk.create())
    second = await desk.release(await desk.new_version(first))

    assert (await desk.roll_back(first)).id == first.id
    assert await desk.status(second) is AgentStatus.SUPERSEDED


async def test_there_is_no_rollback_without_an_earlier_version(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    with pytest.raises(TransitionRefused, match="no earlier version"):
        await desk.roll_back(agent)


async def test_a_revoked_agent_is_no_longer_published(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    await desk.revoke(agent)

    assert await desk.status(agent) is AgentStatus.REVOKED
    assert await desk.queries.models(ANN) == []


async def test_another_template_version_migrates_the_configuration(desk: Desk) -> None:
    first = await desk.create(
        change=AgentChange(
            name="B", template_id="bot", template_version="1.0.0", config={"greeting": "Hi"}
        )
    )
    second = await desk.new_version(first, AgentChange(template_version="2.0.0"))

    assert second.spec.template.version == "2.0.0"
    assert second.spec.config == {"welcome": "Hi"}


async def test_an_unknown_line_id_makes_a_line_and_a_known_one_a_version(desk: Desk) -> None:
    first = await desk.create(actor=ADA, line_id=LineId("from-platform"))
    second = await desk.create(actor=ADA, line_id=LineId("from-platform"), number=5)

    assert (first.line_id, first.number) == (second.line_id, 1)
    assert (second.number, second.slug) == (5, first.slug)
    with pytest.raises(VersionExists):
        await desk.create(actor=ADA, line_id=LineId("from-platform"), number=5)


async def test_the_last_version_takes_its_line_and_name_with_it(desk: Desk) -> None:
    agent = await desk.create(actor=ADA, id=AgentId("a-1"))
    await desk.delete(agent)

    again = await desk.create(actor=ADA, id=AgentId("a-1"))
    assert again.slug == agent.slug


async def test_an_editor_deletes_drafts_only(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    with pytest.raises(Forbidden):
        await desk.delete(agent, actor=ANN)


async def test_a_beta_is_for_its_owner_only(desk: Desk) -> None:
    beta = AgentChange(name="Beta", template_id="bot", version_type=VersionType.BETA)
    agent = await desk.create(change=beta)
    await desk.release(agent)

    assert [model.id for model in await desk.queries.models(ANN)] == [agent.id]
    assert await desk.queries.models(ROB) == []


async def test_the_trail_tells_every_step_with_its_hashes(desk: Desk) -> None:
    agent = await desk.create()
    await desk.update(agent, AgentChange(config={"greeting": "Hi"}))
    await desk.submit(agent)
    await desk.reject(agent, "No.")
    await desk.release(agent)

    assert await desk.trail(agent) == ["create", "update", "submit", "reject", "submit", "approve"]
    entries = (await desk.queries.audit(ANN, agent.id, limit=10, after=None)).items
    update, create = entries[-2], entries[-1]
    assert create.before_hash is None
    assert create.after_hash == update.before_hash != update.after_hash


async def test_a_difference_is_told_field_by_field(desk: Desk) -> None:
    first = await desk.release(await desk.create())
    second = await desk.new_version(first, AgentChange(config={"greeting": "Hi"}, name="Helper"))

    difference = await desk.queries.difference(ANN, second.id, "v1")
    assert [(c.path, c.label, c.before, c.after) for c in difference.changes] == [
        ("name", "Name", "Support Bot", "Helper"),
        ("template_config.greeting", "Greeting", "Hello", "Hi"),
    ]
    assert (await desk.queries.difference(ANN, second.id, None)).before.id == first.id


async def test_only_an_admin_chooses_ids_and_owners(desk: Desk) -> None:
    for chosen in ({"id": AgentId("a-1")}, {"owner_id": EVE.user_id}):
        with pytest.raises(Forbidden):
            await desk.create(**chosen)

    agent = await desk.create(actor=ADA, id=AgentId("a-1"), owner_id=ANN.user_id)
    assert (agent.owner_id, agent.author_id) == (ANN.user_id, ADA.user_id)


async def test_a_line_of_somebody_else_is_as_unknown_as_one_that_is_not_there(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    for line in (agent.line_id, LineId("nowhere")):
        with pytest.raises(AgentNotFound, match=f"^Agent '{line}' does not exist.$"):
            await desk.create(actor=BEN, line_id=line)

    assert (await desk.create(line_id=agent.line_id)).number == 2


async def test_a_released_agent_is_read_by_all_and_changed_by_its_owner(desk: Desk) -> None:
    agent = await desk.release(await desk.create())
    assert (await desk.queries.get(EVE, agent.id)).id == agent.id

    for change in (
        desk.update(agent, AgentChange(name="Mine"), actor=BEN),
        desk.submit(agent, actor=BEN),
        desk.new_version(agent, actor=BEN),
        desk.delete(agent, actor=BEN),
        desk.queries.audit(BEN, agent.id, limit=1, after=None),
    ):
        with pytest.raises(Forbidden):
            await change


async def test_a_draft_of_somebody_else_does_not_exist(desk: Desk) -> None:
    agent = await desk.create()
    for attempt in (
        desk.queries.get(BEN, agent.id),
        desk.queries.get(BEN, "support-bot@v1"),
        desk.update(agent, AgentChange(name="Mine"), actor=BEN),
        desk.delete(agent, actor=BEN),
    ):
        with pytest.raises(AgentNotFound):
            await attempt
    assert not (await desk.queries.page(BEN, AgentFilter(), limit=9, after=None)).items
    assert (await desk.queries.get(ROB, agent.id)).id == agent.id


async def test_two_owners_of_one_line_manage_their_own_versions(desk: Desk) -> None:
    anns = await desk.create()
    bens = await desk.create(actor=ADA, line_id=anns.line_id, owner_id=BEN.user_id)

    await desk.delete(bens, actor=BEN)
    assert await desk.status(anns) is AgentStatus.DRAFT

    bens = await desk.create(actor=ADA, line_id=anns.line_id, owner_id=BEN.user_id)
    await desk.delete(anns, actor=ANN)
    await desk.delete(bens, actor=BEN)
    assert (await desk.create()).slug == anns.slug


@pytest.mark.parametrize("allowed", [KeyScope.AGENTS_READ, KeyScope.AGENTS_WRITE, KeyScope.REVIEW])
async def test_a_narrowed_key_does_only_what_it_is_for(desk: Desk, allowed: KeyScope) -> None:
    agent = await desk.create(actor=ADA)
    narrow = replace(ADA, limited_to=frozenset({allowed}), may_self_approve=True)

    refused = set()
    for scope, attempt in (
        (KeyScope.AGENTS_READ, desk.queries.get(narrow, agent.id)),
        (KeyScope.AGENTS_WRITE, desk.update(agent, AgentChange(name="New"), actor=narrow)),
        (KeyScope.REVIEW, desk.reject(agent, "No.", actor=narrow)),
        (KeyScope.MODELS, desk.queries.models(narrow)),
    ):
        try:
            await attempt
        except Forbidden:
            refused.add(scope)
        except TransitionRefused:
            assert scope is KeyScope.REVIEW
    assert allowed not in refused
    assert len(refused) == 3
