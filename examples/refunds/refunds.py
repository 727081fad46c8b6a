"""Tools of a shop. Put this folder into RUNTIME_TEMPLATE_DIRS."""

from typing import Annotated

from pydantic import Field

from runtime.tools import ToolProblem, tool, tool_call

TOTALS = {"A-17": 40.0, "B-2": 12.5}


@tool(read_only=True)
def order_total(order: str) -> float:
    """What an order cost, in euros."""
    return _total(order)


@tool(needs_approval=True)
async def refund(order: str, amount: Annotated[float, Field(gt=0)]) -> str:
    """Give money back for an order, in euros."""
    if amount > _total(order):
        raise ToolProblem(f"Order {order} cost {_total(order):g} euros.")
    # A bank takes the key as its Idempotency-Key: however often it is asked, it pays once.
    return f"{amount:g} euros are on their way, as {tool_call().idempotency_key}"


def _total(order: str) -> float:
    if order not in TOTALS:
        raise ToolProblem(f"There is no order {order}. There are: {', '.join(TOTALS)}.")
    return TOTALS[order]
