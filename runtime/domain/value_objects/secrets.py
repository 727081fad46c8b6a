"""Secrets within a configuration; each is named by its JSON Pointer (RFC 6901)."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MASK = "***"
"""What is shown, and stored in the configuration itself, in a secret's place."""


@dataclass(frozen=True, slots=True)
class SealedSecret:
    sealed: str
    """Encrypted, for one place in one row."""
    mark: str
    """A keyed hash of the text: another text has another mark."""


def pointer(steps: Iterable[object]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def steps_of(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def step_into(value: Any, step: str) -> Any:  # noqa: ANN401 - JSON is anything
    """Raises LookupError, ValueError, TypeError where there is no such place."""
    return value[int(step)] if isinstance(value, list) else value[step]


def replaced(config: Mapping[str, object], values: Mapping[str, object]) -> dict[str, Any]:
    """A copy of `config` with `values` at their pointers, which must be there."""
    copied: dict[str, Any] = copy.deepcopy(dict(config))
    for each, value in values.items():
        *way, last = steps_of(each)
        holder: Any = copied
        for step in way:
            holder = step_into(holder, step)
        holder[int(last) if isinstance(holder, list) else last] = value
    return copied


def masked(config: Mapping[str, object], secrets: Iterable[str]) -> dict[str, Any]:
    return replaced(config, dict.fromkeys(secrets, MASK))
