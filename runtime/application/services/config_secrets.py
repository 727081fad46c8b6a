"""The secrets of a configuration: apart from it and sealed, its fields masked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.domain.entities.agents import Agent
from runtime.domain.errors import FieldProblem, InvalidConfig, SecretUnreadable
from runtime.domain.services.secrets import SecretVault
from runtime.domain.services.templates import CheckedConfig
from runtime.domain.value_objects.agents import AgentSpec
from runtime.domain.value_objects.ids import AgentId, ProjectId
from runtime.domain.value_objects.secrets import (
    MASK,
    SealedSecret,
    masked,
    replaced,
    step_into,
    steps_of,
)

NOTHING_TO_KEEP = f"'{MASK}' keeps a stored value, and there is none that fits here"


@dataclass(frozen=True, slots=True)
class Place:
    """The row that a secret belongs to; it can't be read out of another one."""

    project_id: ProjectId
    agent_id: AgentId

    def of(self, pointer: str, mark: str) -> str:
        return json.dumps(["agents", self.project_id, self.agent_id, pointer, mark])


@dataclass(frozen=True, slots=True)
class Opened:
    config: Mapping[str, object]
    """With the secrets in it."""
    texts: Mapping[str, str]
    """The secrets by their pointers."""


@dataclass(frozen=True)
class ConfigSecrets:
    vault: SecretVault

    def open(self, agent: Agent) -> Opened:
        """Raises SecretUnreadable."""
        place = Place(agent.project_id, agent.id)
        texts = {
            pointer: self.vault.open(kept.sealed, place.of(pointer, kept.mark))
            for pointer, kept in agent.spec.secrets.items()
        }
        return Opened(replaced(agent.spec.config, texts) if texts else agent.spec.config, texts)

    def readable(self, agent: Agent) -> Opened:
        """What can't be opened, its key being gone, stays masked and has to be written anew."""
        texts = {}
        place = Place(agent.project_id, agent.id)
        for pointer, kept in agent.spec.secrets.items():
            try:
                texts[pointer] = self.vault.open(kept.sealed, place.of(pointer, kept.mark))
            except SecretUnreadable:
                continue
        return Opened(replaced(agent.spec.config, texts), texts)

    def seal(
        self, checked: CheckedConfig, place: Place, known: Mapping[str, str] | None = None
    ) -> tuple[Mapping[str, object], Mapping[str, SealedSecret]]:
        """The configuration to store, and its secrets.

        `known`: marks of texts as they were stored before, which outlive a change of the key.
        Raises InvalidConfig for a mask that stands for nothing.
        """
        sealed, problems = {}, []
        for pointer in checked.secrets:
            text = _at(checked.config, pointer)
            if text == MASK:
                path = ".".join(steps_of(pointer))
                problems.append(FieldProblem(path, NOTHING_TO_KEEP, "the secret itself"))
                continue
            mark = (known or {}).get(text) or self.vault.mark(text, place.project_id)
            sealed[pointer] = SealedSecret(self.vault.seal(text, place.of(pointer, mark)), mark)
        if problems:
            raise InvalidConfig(problems)
        return masked(checked.config, checked.secrets), sealed


def marks(opened: Opened, spec: AgentSpec) -> Mapping[str, str]:
    """By text."""
    return {text: spec.secrets[pointer].mark for pointer, text in opened.texts.items()}


def kept(
    sent: Mapping[str, object], stored: Mapping[str, object], secrets: Sequence[str]
) -> Mapping[str, object]:
    """`sent` with the `stored` secrets where it says '***'.

    An entry of a list keeps its secrets wherever it stands, but only as long as the rest of it is
    what it was: a key is not handed to another entry's address.
    """
    hidden = masked(stored, secrets)
    values = {
        found: _at(stored, each)
        for each in secrets
        if (found := _counterpart(sent, hidden, steps_of(each), "")) is not None
    }
    return replaced(sent, values)


def _counterpart(sent: object, hidden: object, steps: list[str], at: str) -> str | None:
    """The pointer in `sent` of what stands in `hidden` at `steps`, if it is masked in both."""
    if not steps:
        return at if sent == MASK else None
    step, *rest = steps
    if isinstance(sent, list) and isinstance(hidden, list):
        index = _same_entry(sent, hidden, int(step))
        if index is None:
            return None
        return _counterpart(sent[index], hidden[int(step)], rest, f"{at}/{index}")
    if isinstance(sent, Mapping) and isinstance(hidden, Mapping) and step in sent:
        escaped = step.replace("~", "~0").replace("/", "~1")
        return _counterpart(sent[step], hidden[step], rest, f"{at}/{escaped}")
    return None


def _same_entry(sent: list[Any], hidden: list[Any], index: int) -> int | None:
    entry = hidden[index]
    found = [number for number, each in enumerate(sent) if each == entry]
    if len(found) == hidden.count(entry) == 1:
        return found[0]
    return index if len(sent) == len(hidden) and sent[index] == entry else None


def _at(config: Mapping[str, object], pointer: str) -> str:
    value: Any = config
    for step in steps_of(pointer):
        value = step_into(value, step)
    return str(value)
