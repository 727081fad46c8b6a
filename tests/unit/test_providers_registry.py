"""Commands that register, change and remove providers."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from runtime.application.commands.providers import (
    NO_KEY,
    ChangeModel,
    ChangeProvider,
    GivenKey,
    ModelFields,
    PricedModel,
    ProviderFields,
    PutModel,
    RegisterProvider,
    RemoveModel,
    RemoveProvider,
    TryProvider,
)
from runtime.application.handlers import providers as handlers
from runtime.application.queries.providers import ProviderQueries
from runtime.application.services.provider_keys import ProviderKeys
from runtime.application.services.vetting import Vetting
from runtime.domain.entities.providers import Provider, ProviderModel
from runtime.domain.errors import (
    EgressRefused,
    Forbidden,
    InvalidValue,
    ProviderExists,
    ProviderInUse,
    ProviderModelExists,
    ProviderModelNotFound,
    ProviderNotFound,
    ProviderReadOnly,
    SecretUnreadable,
    StaleVersion,
    UpstreamAuthFailed,
)
from runtime.domain.events.providers import ProvidersChanged
from runtime.domain.services.models import Probed
from runtime.domain.services.providers import Configured
from runtime.domain.value_objects.identity import (
    DEFAULT_PROJECT,
    LOCAL_ADMIN,
    LOCAL_USER,
    KeyScope,
    Principal,
    Role,
)
from runtime.domain.value_objects.ids import ProjectId, ProviderId, UserId
from runtime.domain.value_objects.limits import Price
from runtime.domain.value_objects.providers import EnvironmentKey, Fallback
from runtime.domain.value_objects.secrets import SealedSecret
from runtime.infrastructure.secrets import SecretBox
from tests.contracts.samples import NOON, a_line, a_spec, a_version, store
from tests.fakes import MemoryStore, Published, memory_unit_of_work
from tests.fakes_models import ScriptedModels
from tests.fakes_providers import ScriptedChecks, ScriptedVariables

KEY = "sk-of-the-test"
TENANT = Principal(UserId("ada"), roles=frozenset({Role.ADMIN}))
EDITOR = Principal(UserId("ed"), roles=frozenset({Role.EDITOR}))
OWN = "https://api.openai.com/v1"
ELSEWHERE = "https://elsewhere.test/v1"
DEMO = Provider(
    id=ProviderId("demo"),
    project_id=DEFAULT_PROJECT,
    owner_id=LOCAL_USER,
    type="demo",
    models=(ProviderModel(name="turns", upstream_name="x", fallbacks=(Fallback("mine/a"),)),),
    created_at=NOON,
    updated_at=NOON,
)


class OfTheOperator(ScriptedModels):
    """Knows no provider but the operator's."""

    def __init__(self) -> None:
        super().__init__()
        self.probed: list[str] = []

    def check(self, model: str | None) -> None:
        if model is not None and model.partition("/")[0] != "demo":
            raise InvalidValue(f"No provider serves '{model}'.", param="llm_config_id")

    async def probe(self, project: ProjectId, model: str) -> Probed:
        self.probed.append(model)
        fails = "bad" in model
        return Probed(model, model, 1.5, UpstreamAuthFailed("No.") if fails else None)


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.published = Published()
        self.uow = partial(memory_unit_of_work, self.store, self.published)
        self.checks = ScriptedChecks()
        self.models = OfTheOperator()
        self.keys = ProviderKeys(SecretBox(b"k" * 32))
        self.vetting = Vetting(
            self.checks,
            ScriptedVariables(OPENAI_API_KEY=KEY),
            self.keys,
            self.models,
            [Configured(DEMO)],
        )
        self.queries = ProviderQueries(self.uow, self.vetting, self.models)

    async def do(self, handler: Callable[..., Any], command: object) -> Provider:
        done: Provider = await handler(self.uow, lambda: NOON, self.vetting)(command)
        return done

    async def register(
        self,
        id: str = "mine",
        *,
        actor: Principal = LOCAL_ADMIN,
        type: str = "openai",
        key: GivenKey = NO_KEY,
        models: tuple[ProviderModel, ...] = (),
        **fields: Any,  # noqa: ANN401 - of ProviderFields
    ) -> Provider:
        command = RegisterProvider(
            actor=actor,
            id=id,
            type=type,
            fields=ProviderFields(**fields),  # type: ignore[typeddict-item] # named by the tests
            key=key,
            models=[PricedModel(each) for each in models],
        )
        return await self.do(handlers.RegisterProviderHandler, command)

    async def change(
        self,
        *,
        actor: Principal = LOCAL_ADMIN,
        key: GivenKey | None = None,
        if_match: str | None = None,
        **fields: Any,  # noqa: ANN401 - of ProviderFields
    ) -> Provider:
        command = ChangeProvider(
            actor=actor,
            id="mine",
            fields=ProviderFields(**fields),  # type: ignore[typeddict-item] # named by the tests
            key=key,
            if_match=if_match,
        )
        return await self.do(handlers.ChangeProviderHandler, command)

    async def stored(self, id: str = "mine") -> Provider:
        async with self.uow(LOCAL_ADMIN.scope) as work:
            return await work.providers.get(ProviderId(id))

    def audit(self) -> list[tuple[str, Any]]:
        return [(entry.action, entry.detail) for entry in self.store.tables.audit.values()]


@pytest.fixture
def world() -> World:
    return World()


def model(name: str, *fallbacks: str) -> ProviderModel:
    return ProviderModel(
        name=name, upstream_name=name, fallbacks=tuple(Fallback(each) for each in fallbacks)
    )


TEXT = GivenKey(text=f" {KEY}\n")
VARIABLE = GivenKey(variable="OPENAI_API_KEY")


# Registering


async def test_a_key_is_stored_sealed_and_checked_as_it_is(world: World) -> None:
    provider = await world.register(key=TEXT)

    assert isinstance(provider.key, SealedSecret)
    assert KEY not in repr(world.store.tables)
    assert world.keys.open(provider, provider.key) == KEY
    assert world.checks.checked[-1] == (provider, KEY)
    assert world.published == [ProvidersChanged()]
    assert world.audit() == [
        (
            "register_provider",
            {"type": "openai", "base_url": None, "key": "stored", "enabled": True, "models": []},
        )
    ]


async def test_a_sealed_key_opens_nowhere_else(world: World) -> None:
    provider = await world.register(key=TEXT)
    assert isinstance(provider.key, SealedSecret)

    for elsewhere in (
        {"base_url": ELSEWHERE},
        {"type": "local"},
        {"id": ProviderId("other")},
        {"project_id": ProjectId("other")},
    ):
        with pytest.raises(SecretUnreadable):
            world.keys.open(replace(provider, **elsewhere), provider.key)


async def test_a_model_and_its_price_come_in_one_transaction(world: World) -> None:
    command = RegisterProvider(
        actor=LOCAL_ADMIN,
        id="mine",
        type="local",
        fields=ProviderFields(),
        models=[PricedModel(model("large"), Price(Decimal(1), Decimal(2), Decimal(1)))],
    )
    await world.do(handlers.RegisterProviderHandler, command)

    view = await world.queries.get(EDITOR, "mine")
    assert view.prices == {"large": Price(Decimal(1), Decimal(2), Decimal(1))}
    assert [action for action, _ in world.audit()] == ["set_price", "register_provider"]


@pytest.mark.parametrize(
    ("actor", "id", "type", "refusal"),
    [
        (EDITOR, "mine", "openai", Forbidden),
        (replace(LOCAL_ADMIN, limited_to=frozenset({KeyScope.SYSTEM})), "x", "openai", Forbidden),
        (LOCAL_ADMIN, "demo", "openai", ProviderExists),
        (LOCAL_ADMIN, "taken", "openai", ProviderExists),
        (LOCAL_ADMIN, "a/b", "openai", InvalidValue),
        (LOCAL_ADMIN, "health", "openai", InvalidValue),
        (LOCAL_ADMIN, "mine", "telegraph", InvalidValue),
    ],
)
async def test_what_can_not_be_registered(
    world: World, actor: Principal, id: str, type: str, refusal: type[Exception]
) -> None:
    await world.register("taken")
    world.published.clear()

    with pytest.raises(refusal):
        await world.register(id, actor=actor, type=type)
    assert world.published == []
    assert len(world.store.tables.providers) == 1


async def test_what_egress_refuses_is_not_registered(world: World) -> None:
    world.checks.refusal = EgressRefused("10.0.0.1", "no.")

    with pytest.raises(EgressRefused):
        await world.register(base_url="http://10.0.0.1")
    assert not world.store.tables.providers


# Keys of the environment


async def test_the_operator_names_a_variable_for_any_address(world: World) -> None:
    provider = await world.register(key=VARIABLE, base_url=ELSEWHERE)

    assert provider.key == EnvironmentKey("OPENAI_API_KEY")
    assert world.checks.checked[-1][1] == KEY


@pytest.mark.parametrize("base_url", [None, OWN, f"{OWN}/"])
async def test_an_admin_of_a_project_names_one_for_its_vendor(
    world: World, base_url: str | None
) -> None:
    provider = await world.register(actor=TENANT, key=VARIABLE, base_url=base_url)

    assert provider.key == EnvironmentKey("OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("type", "base_url"),
    [("openai", ELSEWHERE), ("openai", f"{OWN}.evil.test"), ("local", None), ("openai", "")],
)
async def test_an_admin_of_a_project_can_not_send_one_elsewhere(
    world: World, type: str, base_url: str | None
) -> None:
    if base_url == "":
        base_url = "http://api.openai.com/v1"
    with pytest.raises(Forbidden, match="its vendor only"):
        await world.register(actor=TENANT, type=type, key=VARIABLE, base_url=base_url)


async def test_a_vendor_s_variable_does_not_go_to_another_vendor(world: World) -> None:
    variables = ScriptedVariables(ANTHROPIC_API_KEY=KEY, HF_TOKEN=KEY, TEAM_API_KEY=KEY)
    world.vetting = replace(world.vetting, variables=variables)

    for variable in ("ANTHROPIC_API_KEY", "HF_TOKEN"):
        with pytest.raises(Forbidden, match="its vendor only"):
            await world.register(actor=TENANT, key=GivenKey(variable=variable))
    await world.register(actor=TENANT, key=GivenKey(variable="TEAM_API_KEY"))


async def test_a_variable_does_not_follow_a_change_of_address_either(world: World) -> None:
    await world.register(actor=TENANT, key=VARIABLE)

    with pytest.raises(Forbidden):
        await world.change(actor=TENANT, base_url=ELSEWHERE)
    with pytest.raises(Forbidden):
        await world.change(actor=TENANT, type="local")
    assert (await world.stored()).base_url is None
    assert (await world.change(actor=LOCAL_ADMIN, base_url=ELSEWHERE)).base_url == ELSEWHERE
    with pytest.raises(Forbidden):
        await world.change(actor=TENANT, options={"organization": "x"})
    with pytest.raises(Forbidden):
        await world.change(actor=TENANT, key=VARIABLE)
    assert (await world.change(actor=TENANT, enabled=False)).enabled is False


async def test_a_variable_that_is_not_set_is_named(world: World) -> None:
    with pytest.raises(InvalidValue, match="Missing API key: Environment variable X_API_KEY not"):
        await world.register(key=GivenKey(variable="X_API_KEY"))


# Changing


@pytest.mark.parametrize("fields", [{"base_url": ELSEWHERE}, {"type": "local"}])
async def test_a_stored_key_does_not_follow_to_another_address(
    world: World, fields: dict[str, Any]
) -> None:
    await world.register(key=TEXT, base_url=OWN)
    with pytest.raises(InvalidValue, match="send api_key again"):
        await world.change(**fields)
    assert (await world.stored()).base_url == OWN

    changed = await world.change(**fields, key=GivenKey(text="another"))
    assert isinstance(changed.key, SealedSecret)
    assert world.keys.open(changed, changed.key) == "another"
    assert world.checks.checked[-1][1] == "another"


async def test_what_is_not_sent_stays(world: World) -> None:
    await world.register(key=TEXT, base_url=OWN, default_model="a")
    changed = await world.change(default_model="b", base_url=OWN)

    assert (changed.base_url, changed.default_model, changed.type) == (OWN, "b", "openai")
    assert isinstance(changed.key, SealedSecret)
    assert world.keys.open(changed, changed.key) == KEY
    assert (await world.change(key=NO_KEY)).key is None
    assert world.audit()[-1][1]["changed"] == ["key"]


async def test_a_change_on_top_of_another_s_is_refused(world: World) -> None:
    before = (await world.register()).etag
    await world.change(enabled=False)

    with pytest.raises(StaleVersion):
        await world.change(enabled=True, if_match=before)
    assert (await world.change(enabled=True, if_match="*")).enabled


async def test_nobody_changes_the_operator_s(world: World) -> None:
    for handler, command in (
        (handlers.ChangeProviderHandler, ChangeProvider(actor=TENANT, id="demo", fields={})),
        (handlers.RemoveProviderHandler, RemoveProvider(actor=TENANT, id="demo")),
        (
            handlers.PutModelHandler,
            PutModel(actor=TENANT, provider="demo", priced=PricedModel(model("x"))),
        ),
        (handlers.RemoveModelHandler, RemoveModel(actor=TENANT, provider="demo", name="x")),
    ):
        with pytest.raises(ProviderReadOnly):
            await world.do(handler, command)


async def test_what_was_there_before_the_operator_s_of_its_name_stays_the_project_s(
    world: World,
) -> None:
    await world.register()
    mine = replace(DEMO, id=ProviderId("mine"))
    vetting = replace(world.vetting, configured=[Configured(mine), Configured(DEMO)])
    queries = ProviderQueries(world.uow, vetting, world.models)

    for limit in (1, 50):
        page = await queries.page(LOCAL_ADMIN, limit=limit, after=None)
        assert [(each.provider.id, each.operators) for each in page.items] == [
            ("demo", True),
            ("mine", False),
        ]
    assert not (await queries.get(LOCAL_ADMIN, "mine")).operators
    health = await queries.health(LOCAL_ADMIN, probe=False)
    assert [(each.provider, each.type) for each in health] == [("demo", "demo"), ("mine", "openai")]
    remove = handlers.RemoveProviderHandler(world.uow, lambda: NOON, vetting)
    await remove(RemoveProvider(actor=LOCAL_ADMIN, id="mine"))
    assert (await queries.get(LOCAL_ADMIN, "mine")).operators


# Models and fallbacks


async def put(world: World, priced: ProviderModel, provider: str = "mine") -> Provider:
    command = PutModel(actor=LOCAL_ADMIN, provider=provider, priced=PricedModel(priced))
    return await world.do(handlers.PutModelHandler, command)


@pytest.mark.parametrize(
    "reference", ["demo", "demo/any", "mine", "mine/b", "mine/unregistered", "other", "other/x"]
)
async def test_a_fallback_is_whatever_some_provider_serves(world: World, reference: str) -> None:
    await world.register("other")
    await world.register(models=(model("b"), model("c")), default_model="b")

    changed = await put(world, model("a", reference))
    assert changed.model("a").fallbacks == (Fallback(reference),)


@pytest.mark.parametrize("reference", ["nobody", "nobody/x", "mine/", "other/"])
async def test_a_fallback_that_nobody_serves_is_refused(world: World, reference: str) -> None:
    await world.register("other")
    await world.register()

    with pytest.raises(InvalidValue, match="No provider serves") as error:
        await put(world, model("a", reference))
    assert error.value.param == "fallbacks"


async def test_no_model_steps_in_for_itself_by_whatever_way(world: World) -> None:
    await world.register(models=(model("a"), model("b")), default_model="a")
    await world.register("other", models=(model("x", "mine/b"),), default_model="x")

    for name, reference in (
        ("a", "mine/a"),
        ("a", "mine"),
        ("a", "demo/turns"),
        ("b", "other/x"),
        ("b", "other"),
    ):
        with pytest.raises(InvalidValue, match="step in for itself"):
            await put(world, model(name, reference))
    with pytest.raises(InvalidValue, match="named twice"):
        await put(world, model("a", "demo", "demo"))
    assert (await put(world, model("a", "other", "mine/b"))).model("a").fallbacks


async def test_a_model_is_added_once_changed_and_removed(world: World) -> None:
    await world.register(models=(model("a", "demo"),))
    new = PutModel(actor=LOCAL_ADMIN, provider="mine", priced=PricedModel(model("a")), new=True)
    with pytest.raises(ProviderModelExists):
        await world.do(handlers.PutModelHandler, new)
    change = ChangeModel(
        actor=LOCAL_ADMIN, provider="mine", name="a", fields=ModelFields(enabled=False)
    )
    changed = await world.do(handlers.ChangeModelHandler, change)
    assert changed.models == (replace(model("a", "demo"), enabled=False),)

    remove = RemoveModel(actor=LOCAL_ADMIN, provider="mine", name="a")
    assert (await world.do(handlers.RemoveModelHandler, remove)).models == ()
    with pytest.raises(ProviderModelNotFound):
        await world.do(handlers.RemoveModelHandler, remove)


# Removing


async def test_what_is_in_use_stays(world: World) -> None:
    await world.register(models=(model("a"), model("b")))
    line = replace(a_line(project=DEFAULT_PROJECT))
    agent = a_version(line, spec=replace(a_spec(), model="mine/a"))
    await store(world.uow, line, agent)
    provider = RemoveProvider(actor=LOCAL_ADMIN, id="mine")
    for handler, command in (
        (handlers.RemoveProviderHandler, provider),
        (handlers.RemoveModelHandler, RemoveModel(actor=LOCAL_ADMIN, provider="mine", name="a")),
    ):
        with pytest.raises(ProviderInUse, match="support@v1") as error:
            await world.do(handler, command)
        assert error.value.details == {"used_by": ["support@v1"]}

    b = RemoveModel(actor=LOCAL_ADMIN, provider="mine", name="b")
    await world.do(handlers.RemoveModelHandler, b)
    del world.store.tables.agents[agent.id]
    world.published.clear()
    await world.do(handlers.RemoveProviderHandler, provider)
    assert world.published == [ProvidersChanged()]
    with pytest.raises(ProviderNotFound):
        await world.stored()


@pytest.mark.parametrize("default", [{"default_model": "gpt"}, {}], ids=["named", "the type's"])
async def test_the_default_model_is_in_use_by_whoever_names_the_provider(
    world: World, default: ProviderFields
) -> None:
    await world.register(models=(model("gpt"),), **default)
    line = a_line(project=DEFAULT_PROJECT)
    await store(world.uow, line, a_version(line, spec=replace(a_spec(), model="mine")))
    with pytest.raises(ProviderInUse, match="support@v1"):
        await world.do(
            handlers.RemoveModelHandler, RemoveModel(actor=LOCAL_ADMIN, provider="mine", name="gpt")
        )


# Trying and reading


def trying(world: World) -> handlers.TryProviderHandler:
    return handlers.TryProviderHandler(world.uow, world.vetting, world.models)


async def test_a_test_call_is_of_the_named_model_or_the_default(world: World) -> None:
    await world.register()
    for id, name in (("mine", None), ("mine", "a/b"), ("demo", None)):
        await trying(world)(TryProvider(actor=TENANT, id=id, model=name))

    assert world.models.probed == ["mine", "mine/a/b", "demo"]
    with pytest.raises(ProviderNotFound):
        await trying(world)(TryProvider(actor=TENANT, id="nobody"))
    with pytest.raises(Forbidden):
        await trying(world)(TryProvider(actor=EDITOR, id="mine"))


async def test_health_by_test_calls_is_of_all_that_are_enabled(world: World) -> None:
    await world.register("bad")
    await world.register("off", enabled=False)
    found = await world.queries.health(TENANT, probe=True)

    assert [(each.provider, each.status) for each in found] == [
        ("demo", "healthy"),
        ("bad", "unhealthy"),
        ("off", "disabled"),
    ]
    assert isinstance(found[1].error, UpstreamAuthFailed)
    with pytest.raises(Forbidden):
        await world.queries.health(EDITOR, probe=True)


async def test_addresses_are_for_admins(world: World) -> None:
    await world.register(base_url=ELSEWHERE, key=TEXT)

    for actor, shown in ((EDITOR, False), (TENANT, True)):
        page = await world.queries.page(actor, limit=10, after=None)
        assert [(view.operators, view.shows_address) for view in page.items] == [
            (True, False),
            (False, shown),
        ]
        assert (await world.queries.get(actor, "mine")).shows_address is shown
    with pytest.raises(ProviderNotFound):
        await world.queries.get(replace(TENANT, project_id=ProjectId("other")), "mine")
