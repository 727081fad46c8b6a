from collections.abc import Mapping, Sequence
from typing import Literal

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run
from runtime.domain.errors import DomainError
from runtime.domain.services.monitor import CallEnd, CallWatch, Monitor, RunWatch
from runtime.domain.value_objects.chat import GenerationOptions
from runtime.domain.value_objects.ids import RunId


class Monitors(Monitor):
    """Tells each of several, in order."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = monitors

    def run(self, id: RunId, agent: Agent) -> RunWatch:
        return _Runs([each.run(id, agent) for each in self._monitors])

    def model_call(
        self, provider: str, model: str, options: GenerationOptions, *, stream: bool
    ) -> CallWatch:
        return _Calls(
            [each.model_call(provider, model, options, stream=stream) for each in self._monitors]
        )

    def embedding_call(self, provider: str, model: str) -> CallWatch:
        return _Calls([each.embedding_call(provider, model) for each in self._monitors])

    def fell_back(self, provider: str, model: str, error: DomainError) -> None:
        for each in self._monitors:
            each.fell_back(provider, model, error)

    def refused(self, agent: Agent, error: DomainError) -> None:
        for each in self._monitors:
            each.refused(agent, error)


class _Runs(RunWatch):
    def __init__(self, watches: Sequence[RunWatch]) -> None:
        self._watches = watches

    def tool_called(self, call_id: str, name: str) -> None:
        for each in self._watches:
            each.tool_called(call_id, name)

    def tool_returned(self, call_id: str, status: Literal["success", "error"]) -> None:
        for each in self._watches:
            each.tool_returned(call_id, status)

    def ended(self, run: Run) -> None:
        for each in self._watches:
            each.ended(run)


class _Calls(CallWatch):
    def __init__(self, watches: Sequence[CallWatch]) -> None:
        self._watches = watches

    @property
    def headers(self) -> Mapping[str, str]:
        return {name: value for each in self._watches for name, value in each.headers.items()}

    def ended(self, end: CallEnd) -> None:
        for each in self._watches:
            each.ended(end)
