from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.application.commands.runs import SessionRef
from runtime.domain.value_objects.chat import GenerationOptions, Message
from runtime.domain.value_objects.identity import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChat:
    """Ask an agent, or one or several models, and have the answers come as a mode puts them."""

    caller: Principal
    messages: Sequence[Message]
    agent: str | None = None
    """As `model` of ExecuteAgent."""
    models: Sequence[str] = ()
    """Where there is no agent: `provider/name` or a provider's id. None at all: the default."""
    options: GenerationOptions = field(default_factory=GenerationOptions)
    session: SessionRef | None = None
    mode: str = "standard"
    config: Mapping[str, object] = field(default_factory=dict)
    """Of the mode."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    stream: bool = True
    tells_apart: bool = True
    """Whether who asks can show several answers that come at once."""
