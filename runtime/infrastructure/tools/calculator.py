"""Arithmetic on a whitelist of syntax: nothing in an expression is ever evaluated as Python."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.infrastructure.tools.function import FunctionTool, ToolProblem

MAX_LENGTH = 500
MAX_DEPTH = 40
MAX_BITS = 2_048
"""Largest whole number on the way to the result; about 616 digits."""
MAX_DIGITS = 300
"""Furthest place that a number is rounded to, on either side of the point."""
EXACT_BELOW = 1e15
"""A floating-point number up to here has all digits of its whole part."""

Number = int | float


class Expression(BaseModel):
    model_config = ConfigDict(extra="forbid")

    expression: str = Field(
        min_length=1,
        max_length=MAX_LENGTH,
        description="For example (12.5 * 3 + sqrt(16)) / 2. Powers are written 2**10.",
    )


def calculator() -> FunctionTool[Expression]:
    return FunctionTool(
        name="calculator",
        description=(
            "Evaluates an arithmetic expression: + - * / // % **, parentheses, the functions "
            f"{', '.join(_FUNCTIONS)} and the constants {', '.join(_CONSTANTS)}. "
            "Angles are in radians."
        ),
        arguments=Expression,
        run=lambda asked: written(evaluate(asked.expression)),
    )


def evaluate(expression: str) -> Number:
    """Raises ToolProblem."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    # Deep nesting overflows the parser's stack, a NUL is a ValueError.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolProblem(
            "That is no arithmetic expression. Write it like (12.5 * 3 + sqrt(16)) / 2."
        ) from None
    return _value(tree.body, MAX_DEPTH)


def written(value: Number) -> str:
    """Whole numbers as such, others with at most 15 significant digits."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < EXACT_BELOW:
        return str(int(value))
    return f"{value:.15g}"


def _value(node: ast.expr, depth: int) -> Number:
    if depth == 0:
        raise ToolProblem(f"The expression is nested more than {MAX_DEPTH} deep; split it.")
    match node:
        case ast.Constant(value=bool() | complex()):
            pass
        case ast.Constant(value=int() | float() as value):
            return _checked(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id=name):
            raise ToolProblem(f"Unknown name '{name}'. Constants: {', '.join(_CONSTANTS)}.")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, depth - 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _applied(_BINARY[type(op)], _value(left, depth - 1), _value(right, depth - 1))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in _FUNCTIONS:
                raise ToolProblem(f"Unknown function '{name}'. There are: {', '.join(_FUNCTIONS)}.")
            return _applied(_FUNCTIONS[name], *(_value(each, depth - 1) for each in args))
    raise ToolProblem(
        "Only numbers, + - * / // % **, parentheses, functions and constants can be used."
    )


def _applied(function: Callable[..., Any], *values: Number) -> Number:
    try:
        return _checked(function(*values))
    except ZeroDivisionError:
        raise ToolProblem("Division by zero.") from None
    except OverflowError:
        raise ToolProblem("The result is too large.") from None
    except ValueError:
        raise ToolProblem("The result is not a real number.") from None
    except TypeError:
        raise ToolProblem("A function has the wrong number or kind of arguments.") from None


def _checked(value: Number | complex) -> Number:
    if isinstance(value, complex) or (isinstance(value, float) and math.isnan(value)):
        raise ToolProblem("The result is not a real number.")
    huge = value.bit_length() > MAX_BITS if isinstance(value, int) else math.isinf(value)
    if huge:
        raise ToolProblem("The result is too large.")
    return value


def _power(base: Number, exponent: Number) -> Any:  # noqa: ANN401 - may be complex
    """Refuses a huge result before it is computed."""
    if isinstance(base, int) and isinstance(exponent, int):
        if abs(base) <= 1:
            return base ** (exponent % 2) if base else base**exponent
        if exponent * (base.bit_length() - 1) > MAX_BITS:
            raise OverflowError
    return base**exponent


def _round(value: Number, digits: int = 0) -> Number:
    if abs(digits) > MAX_DIGITS:
        raise ValueError
    return round(value, digits)


def _log(value: Number, base: Number = math.e) -> float:
    return math.log(value) if base == math.e else math.log(value, base)


_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "log": _log,
    "log10": math.log10,
    "exp": math.exp,
    "abs": abs,
    "round": _round,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_BINARY: Mapping[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
