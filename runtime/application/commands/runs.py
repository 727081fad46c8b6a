from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.items import Item
from runtime.domain.value_objects.memory import Recall


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRef:
    """The conversation that a turn belongs to, as the caller names it."""

    name: str
    """The id of a conversation (`conv_…`), which must exist, or a name of the caller's own, under
    which the conversation with this agent begins when it is first used."""
    whole_history: bool = False
    """The caller always sends the conversation from its beginning: what it sends counts."""
    unnamed: bool = False
    """The caller gave no name, and this one is made up: the run is on record under the id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteAgent:
    """Start a run. Every door sends this one."""

    caller: Principal
    model: str
    """`support`, `support@v7`, `support@draft`, or an agent id."""
    direct: bool = False
    """`model` is no agent but a model of the model service, called as it is."""
    messages: Sequence[Message]
    options: GenerationOptions = field(default_factory=GenerationOptions)
    choices: int = 1
    """Independent answers to the same input, each a run of its own."""
    stream: bool = True
    session: SessionRef | None = None
    items: Sequence[Item] = ()
    """What the caller adds to the conversation, where its door speaks of items; empty: what
    `messages` adds to it."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    recall: Recall | None = None
    labels: Mapping[str, str] | None = None
    """Given: the answer is kept as a chat completion, under these."""
