"""Methods made of descriptions: with their names, signatures and docstrings."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

F = TypeVar("F", bound=Callable[..., Any])


def like(described: Callable[..., Any], method: F, returned: object = None) -> F:
    """`method`, told as `described` is. `returned`: what it answers; None: what the call does."""
    signature = inspect.signature(described)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    told: Any = method
    told.__name__ = described.__name__
    told.__doc__ = described.__doc__
    told.__signature__ = signature.replace(
        parameters=[this, *signature.parameters.values()],
        return_annotation=returned or get_args(signature.return_annotation)[0],
    )
    return method
