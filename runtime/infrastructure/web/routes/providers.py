from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AfterValidator
from pydantic.json_schema import SkipJsonSchema

from runtime.application.commands.providers import (
    NO_KEY,
    ChangeModel,
    ChangeProvider,
    ProviderFields,
    PutModel,
    RegisterProvider,
    RemoveModel,
    RemoveProvider,
    TryProvider,
)
from runtime.application.handlers.providers import (
    ChangeModelHandler,
    ChangeProviderHandler,
    PutModelHandler,
    RegisterProviderHandler,
    RemoveModelHandler,
    RemoveProviderHandler,
    TryProviderHandler,
)
from runtime.application.queries.providers import ProviderQueries
from runtime.domain.value_objects.identity import Principal
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, not_a_route, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.providers_wire import (
    ConditionOut,
    HealthOut,
    ModelCreate,
    ModelList,
    ModelOut,
    ModelPatch,
    ModelPut,
    ProviderCreate,
    ProviderList,
    ProviderOut,
    ProviderPatch,
    Removed,
    TrialIn,
    TrialOut,
    TypeList,
    TypeOut,
)

router = APIRouter(
    prefix="/v1/providers", tags=["Providers"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
Queries = Annotated[ProviderQueries, provided(lambda c: c.provider_queries())]
Change = Annotated[ChangeProviderHandler, provided(lambda c: c.change_provider())]
Put = Annotated[PutModelHandler, provided(lambda c: c.put_model())]
Id = Annotated[str, Path(max_length=256), AfterValidator(not_a_route("health", "types"))]
Name = Annotated[str, Path(max_length=256, description="The model's name; it may hold slashes.")]
IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(alias="If-Match", description="The ETag of the state you read; a newer one → 412."),
]
CHANGE: dict[int | str, dict[str, Any]] = errors_of(409, 412, 413)
REMOVAL: dict[int | str, dict[str, Any]] = errors_of(409, 412)


@router.post("", status_code=201, responses=errors_of(409, 413, 500))
async def register_provider(
    body: ProviderCreate,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[RegisterProviderHandler, provided(lambda c: c.register_provider())],
) -> ProviderOut:
    """Add an endpoint that serves models. Agents of the project name them `id/name` at once."""
    provider = await handle(
        RegisterProvider(
            actor=caller,
            id=body.id,
            type=body.type,
            fields=body.fields(),
            key=body.key() or NO_KEY,
            models=[each.priced(each.name) for each in body.models],
        )
    )
    response.headers["Location"] = f"/v1/providers/{provider.id}"
    return await _shown(provider.id, caller, queries, response)


@router.get("")
async def list_providers(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> ProviderList:
    """Those of the project by id; before them, on the first page and beside `limit`, those that
    the operator set for everybody."""
    page = await queries.page(caller, limit=limit, after=after)
    return ProviderList(
        data=[ProviderOut.of(view) for view in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/types")
async def list_provider_types(caller: Caller, queries: Queries) -> TypeList:
    """What a provider's `type` may be, with what each brings along."""
    return TypeList(data=[TypeOut.of(each) for each in queries.types(caller)])


@router.get("/health")
async def get_providers_health(
    caller: Caller,
    queries: Queries,
    probe: Annotated[
        bool, Query(description="Make a test call of each one, which costs what it costs.")
    ] = False,
) -> HealthOut:
    """How every provider does, by the calls so far; with `probe`, which is for admins, by a test
    call of each one's default model."""
    found = await queries.health(caller, probe=probe)
    return HealthOut(data=[ConditionOut.of(each) for each in found])


@router.get("/{id}")
async def get_provider(id: Id, response: Response, caller: Caller, queries: Queries) -> ProviderOut:
    """One provider with its models and what they cost."""
    return await _shown(id, caller, queries, response)


@router.patch("/{id}", responses=errors_of(409, 412, 413, 500))
async def change_provider(
    id: Id,
    body: ProviderPatch,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Change,
    if_match: IfMatch = None,
) -> ProviderOut:
    """What is not sent stays. A stored key does not go along to another `type` or `base_url`: send
    it again."""
    command = ChangeProvider(
        actor=caller, id=id, fields=body.fields(), key=body.key(), if_match=if_match
    )
    await handle(command)
    return await _shown(id, caller, queries, response)


@router.delete("/{id}", responses=REMOVAL)
async def remove_provider(
    id: Id,
    caller: Caller,
    handle: Annotated[RemoveProviderHandler, provided(lambda c: c.remove_provider())],
    if_match: IfMatch = None,
) -> Removed:
    """Take a provider away, and its key with it. Refused while an agent names one of its models or
    a model of another provider falls back on one."""
    gone = await handle(RemoveProvider(actor=caller, id=id, if_match=if_match))
    return Removed(id=gone.id)


@router.post("/{id}/enable", responses=errors_of(409))
async def enable_provider(
    id: Id, response: Response, caller: Caller, queries: Queries, handle: Change
) -> ProviderOut:
    """Put it back into service."""
    await handle(ChangeProvider(actor=caller, id=id, fields=ProviderFields(enabled=True)))
    return await _shown(id, caller, queries, response)


@router.post("/{id}/disable", responses=errors_of(409))
async def disable_provider(
    id: Id, response: Response, caller: Caller, queries: Queries, handle: Change
) -> ProviderOut:
    """Take it out of service; who uses it gets its fallbacks, or an error."""
    await handle(ChangeProvider(actor=caller, id=id, fields=ProviderFields(enabled=False)))
    return await _shown(id, caller, queries, response)


@router.post("/{id}/test", responses=errors_of(413))
async def try_provider(
    id: Id,
    caller: Caller,
    handle: Annotated[TryProviderHandler, provided(lambda c: c.try_provider())],
    body: TrialIn | None = None,
) -> TrialOut:
    """One short call of a model, though it is disabled, past its breaker and its fallbacks. What
    the provider does wrong is in the answer: a bad key as `upstream_auth_failed`."""
    model = body.model if body else None
    return TrialOut.of(await handle(TryProvider(actor=caller, id=id, model=model)))


@router.get("/{id}/models")
async def list_provider_models(
    id: Id, response: Response, caller: Caller, queries: Queries
) -> ModelList:
    """The models that are registered of a provider; others can be called by their own names."""
    return ModelList(data=(await _shown(id, caller, queries, response)).models)


@router.post("/{id}/models", status_code=201, responses=errors_of(409, 413))
async def add_provider_model(
    id: Id, body: ModelCreate, response: Response, caller: Caller, queries: Queries, handle: Put
) -> ModelOut:
    """Say what a model is called, can do, costs, and who steps in for it."""
    await handle(PutModel(actor=caller, provider=id, priced=body.priced(body.name), new=True))
    return await _model(id, body.name, caller, queries, response)


@router.get("/{id}/models/{name:path}")
async def get_provider_model(
    id: Id, name: Name, response: Response, caller: Caller, queries: Queries
) -> ModelOut:
    """One model with its price."""
    return await _model(id, name, caller, queries, response)


@router.put("/{id}/models/{name:path}", responses=CHANGE)
async def put_provider_model(
    id: Id,
    name: Name,
    body: ModelPut,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Put,
    if_match: IfMatch = None,
) -> ModelOut:
    """Register a model, in place of what was registered under its name."""
    command = PutModel(actor=caller, provider=id, priced=body.priced(name), if_match=if_match)
    await handle(command)
    return await _model(id, name, caller, queries, response)


@router.patch("/{id}/models/{name:path}", responses=CHANGE)
async def change_provider_model(
    id: Id,
    name: Name,
    body: ModelPatch,
    response: Response,
    caller: Caller,
    queries: Queries,
    handle: Annotated[ChangeModelHandler, provided(lambda c: c.change_model())],
    if_match: IfMatch = None,
) -> ModelOut:
    """What is not sent stays: `{"enabled": false}` takes a model out of service."""
    command = ChangeModel(
        actor=caller,
        provider=id,
        name=name,
        fields=body.fields(name),
        price=body.new_price,
        if_match=if_match,
    )
    await handle(command)
    return await _model(id, name, caller, queries, response)


@router.delete("/{id}/models/{name:path}", responses=REMOVAL)
async def remove_provider_model(
    id: Id,
    name: Name,
    caller: Caller,
    handle: Annotated[RemoveModelHandler, provided(lambda c: c.remove_model())],
    if_match: IfMatch = None,
) -> Removed:
    """Forget what was said of a model. Refused while an agent names it or a model falls back on
    it."""
    command = RemoveModel(actor=caller, provider=id, name=name, if_match=if_match)
    return Removed(id=f"{(await handle(command)).id}/{name}")


async def _shown(
    id: str, caller: Principal, queries: ProviderQueries, response: Response
) -> ProviderOut:
    view = await queries.get(caller, id)
    response.headers["ETag"] = view.provider.etag
    return ProviderOut.of(view)


async def _model(
    id: str, name: str, caller: Principal, queries: ProviderQueries, response: Response
) -> ModelOut:
    view, model = await queries.model(caller, id, name)
    response.headers["ETag"] = view.provider.etag
    return ModelOut.of(id, model, view.prices.get(name))
