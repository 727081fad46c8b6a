"""From a model call to the run that it belongs to: what it uses while it goes on."""

from contextvars import ContextVar
from typing import Protocol

from runtime.domain.events.runs import UsageReported
from runtime.domain.services.models import ModelCall
from runtime.domain.value_objects.chat import Usage


class MeteredCall(Protocol):
    """One call under a budget."""

    def streamed(self, characters: int) -> None:
        """So far. Raises BudgetExhausted, which closes the call."""

    def ended(self, usage: Usage) -> None: ...


class Meter(Protocol):
    def begin(self, model: str, call: ModelCall) -> MeteredCall | None:
        """`model` is `provider/name`. None where there is no budget, and nothing to be told of
        each token. Raises BudgetExhausted, ModelUnpriced."""

    def lost(self, report: UsageReported) -> None:
        """An estimate for a call that broke off before its usage could be reported."""


METER: ContextVar[Meter | None] = ContextVar("meter", default=None)
"""Of the run that is going on in this context."""
