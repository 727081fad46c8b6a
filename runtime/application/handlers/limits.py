"""Commands that change limits and prices: each one transaction, with its row in the audit trail."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime

from runtime.application.commands.limits import RemoveLimits, RemovePrice, SetLimits, SetPrice
from runtime.application.services.auditing import rule_entry
from runtime.domain.entities.agents import AgentLine
from runtime.domain.entities.limits import LimitRule, PriceRule
from runtime.domain.errors import AgentNotFound, InvalidValue, LimitNotFound
from runtime.domain.events.limits import RulesChanged
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.agents import Slug
from runtime.domain.value_objects.identity import KeyScope, Principal, Role
from runtime.domain.value_objects.ids import AgentId, KeyId, LineId, UserId
from runtime.domain.value_objects.limits import Limits, LimitScope, Price, Subject

MOST_STARS = 4
_MODEL = re.compile(r"\*|[\x21-\x7e]+/[\x21-\x7e]+")
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class SetLimitsHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: SetLimits) -> LimitRule:
        """Raises Forbidden, InvalidValue, KeyNotFound, AgentNotFound, LimitNotFound for a project
        that is not the actor's."""
        actor, limits, at = command.actor, command.limits, self.now()
        _may_rule(actor, "set limits")
        if not limits.rates and limits.budget is None:
            raise InvalidValue("Set at least one limit, or remove them with DELETE.", param="body")
        async with self.uow(actor.scope) as work:
            subject, owner = await subject_of(work, actor, command.scope, command.id)
            rule = LimitRule(
                subject=subject,
                owner_id=owner,
                limits=limits,
                updated_at=at,
                updated_by=actor.user_id,
            )
            await work.limits.put(rule)
            await work.audit.add(
                rule_entry("set_limits", subject.id, owner, actor, at, _detail(limits))
            )
            await work.commit()
        return rule


@dataclass(frozen=True)
class RemoveLimitsHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: RemoveLimits) -> LimitRule:
        """Raises Forbidden, LimitNotFound."""
        actor, at = command.actor, self.now()
        _may_rule(actor, "remove limits")
        async with self.uow(actor.scope) as work:
            rule = await rule_of(work, actor, command.scope, command.id)
            rule.events.append(RulesChanged())
            await work.limits.remove(rule)
            await work.audit.add(
                rule_entry("remove_limits", rule.subject.id, rule.owner_id, actor, at, {})
            )
            await work.commit()
        return rule


@dataclass(frozen=True)
class SetPriceHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: SetPrice) -> PriceRule:
        """Raises Forbidden, InvalidValue."""
        actor, model, at = command.actor, command.model, self.now()
        _may_rule(actor, "set prices")
        if not _MODEL.fullmatch(model) or len(model) > _MOST_CHARACTERS:
            raise InvalidValue(
                f"A model is 'provider/name', or '*', in at most {_MOST_CHARACTERS} characters.",
                param="model",
            )
        if model.count("*") > MOST_STARS:
            raise InvalidValue(f"A model has at most {MOST_STARS} '*'.", param="model")
        rule = PriceRule(
            model=model,
            project_id=actor.project_id,
            owner_id=actor.user_id,
            price=command.price,
            updated_at=at,
        )
        async with self.uow(actor.scope) as work:
            await work.prices.put(rule)
            detail = priced(command.price)
            await work.audit.add(rule_entry("set_price", model, actor.user_id, actor, at, detail))
            await work.commit()
        return rule


@dataclass(frozen=True)
class RemovePriceHandler:
    uow: UnitOfWorkFactory
    now: Callable[[], datetime]

    async def __call__(self, command: RemovePrice) -> PriceRule:
        """Raises Forbidden, PriceNotFound."""
        actor, at = command.actor, self.now()
        _may_rule(actor, "remove prices")
        async with self.uow(actor.scope) as work:
            rule = await work.prices.get(command.model)
            rule.events.append(RulesChanged())
            await work.prices.remove(rule)
            await work.audit.add(
                rule_entry("remove_price", rule.model, rule.owner_id, actor, at, {})
            )
            await work.commit()
        return rule


async def subject_of(
    work: UnitOfWork, actor: Principal, scope: LimitScope, id: str
) -> tuple[Subject, UserId]:
    """Whose limits they are, and whose that is.

    Raises KeyNotFound, AgentNotFound, LimitNotFound for a project that is not the actor's.
    """
    match scope:
        case LimitScope.KEY:
            key = await work.keys.get(KeyId(id))
            return Subject(actor.project_id, scope, key.id), key.owner_id
        case LimitScope.AGENT:
            line = await _line(work, id)
            return Subject(actor.project_id, scope, line.id), line.owner_id
        case LimitScope.PROJECT:
            if id != actor.project_id:
                raise LimitNotFound(scope, id)
            return Subject(actor.project_id, scope, id), actor.user_id


async def _line(work: UnitOfWork, id: str) -> AgentLine:
    """Raises AgentNotFound."""
    line = await work.lines.find(LineId(id))
    with suppress(InvalidValue):
        line = line or await work.lines.find_by_slug(Slug(id))
    return line or await work.lines.get((await work.agents.get(AgentId(id))).line_id)


async def rule_of(work: UnitOfWork, actor: Principal, scope: LimitScope, id: str) -> LimitRule:
    """Raises LimitNotFound, also where the id is of nothing that the scope shows."""
    if scope is LimitScope.AGENT:
        try:
            subject, _ = await subject_of(work, actor, scope, id)
        except AgentNotFound:
            raise LimitNotFound(scope, id) from None
    else:
        subject = Subject(actor.project_id, scope, id)
    return await work.limits.get(subject)


def _may_rule(actor: Principal, to: str) -> None:
    actor.require_scope(KeyScope.SYSTEM)
    actor.require(Role.ADMIN, to)


def _detail(limits: Limits) -> Mapping[str, object]:
    budget = limits.budget
    money = budget.cost if budget else None
    return {
        **asdict(limits.rates),
        "budget_tokens": budget and budget.tokens,
        "budget_cost_usd": None if money is None else str(money),
        "budget_period": budget and budget.period.value,
    }


def priced(price: Price) -> Mapping[str, object]:
    return {name: str(value) for name, value in asdict(price).items()}
