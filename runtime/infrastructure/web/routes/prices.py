from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from runtime.application.commands.limits import RemovePrice, SetPrice
from runtime.application.handlers.limits import RemovePriceHandler, SetPriceHandler
from runtime.application.queries.limits import LimitQueries
from runtime.domain.entities.limits import PriceRule
from runtime.domain.value_objects.limits import Price
from runtime.infrastructure.web.auth import Caller
from runtime.infrastructure.web.dependencies import After, Limit, provided
from runtime.infrastructure.web.requests import StrictRoute
from runtime.infrastructure.web.routes.examples import PLATFORM_ERRORS, errors_of
from runtime.infrastructure.web.routes.limits import usd

router = APIRouter(
    prefix="/v1/prices", tags=["Limits"], route_class=StrictRoute, responses=PLATFORM_ERRORS
)
EXAMPLE: dict[str, Any] = {"input": 0.4, "cached_input": 0.1, "output": 1.6}
MOST_USD = 10**6
Queries = Annotated[LimitQueries, provided(lambda c: c.limit_queries())]
Model = Annotated[
    str,
    Path(
        max_length=256,
        description="`provider/name`; a `*` in it stands for anything. A model's own price counts "
        "before a pattern's, a longer pattern's before a shorter one's.",
    ),
]


class PricePut(BaseModel):
    """In USD for a million tokens."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    input: float = Field(ge=0, le=MOST_USD)
    output: float = Field(ge=0, le=MOST_USD)
    cached_input: float | None = Field(
        default=None, ge=0, le=MOST_USD, description="Unset: as other input."
    )

    def price(self) -> Price:
        cached = self.input if self.cached_input is None else self.cached_input
        return Price(input=usd(self.input), output=usd(self.output), cached_input=usd(cached))


class PriceOut(BaseModel):
    model: str
    input: float
    output: float
    cached_input: float
    currency: Literal["USD"] = "USD"
    updated_at: datetime
    updated_by: str

    @classmethod
    def of(cls, rule: PriceRule) -> "PriceOut":
        return cls(
            model=rule.model,
            input=float(rule.price.input),
            output=float(rule.price.output),
            cached_input=float(rule.price.cached_input),
            updated_at=rule.updated_at,
            updated_by=rule.owner_id,
        )


class PriceList(BaseModel):
    object: Literal["list"] = "list"
    data: list[PriceOut]
    has_more: bool
    next_cursor: str | None


@router.get("")
async def list_prices(
    caller: Caller, queries: Queries, limit: Limit = 50, after: After = None
) -> PriceList:
    """What models cost in this project, in USD for a million tokens; the last changed first."""
    page = await queries.prices(caller, limit=limit, after=after)
    return PriceList(
        data=[PriceOut.of(rule) for rule in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


@router.get("/{model:path}")
async def get_price(model: Model, caller: Caller, queries: Queries) -> PriceOut:
    """The price that was set under this very name; a pattern that fits is not looked for."""
    return PriceOut.of(await queries.price(caller, model))


@router.put("/{model:path}", responses=errors_of(413))
async def set_price(
    model: Model,
    body: PricePut,
    caller: Caller,
    handle: Annotated[SetPriceHandler, provided(lambda c: c.set_price())],
) -> PriceOut:
    """Set a price, for the runs that end from now on."""
    return PriceOut.of(await handle(SetPrice(actor=caller, model=model, price=body.price())))


@router.delete("/{model:path}")
async def remove_price(
    model: Model,
    caller: Caller,
    handle: Annotated[RemovePriceHandler, provided(lambda c: c.remove_price())],
) -> PriceOut:
    """The model has no price any more, or that of a pattern."""
    return PriceOut.of(await handle(RemovePrice(actor=caller, model=model)))
