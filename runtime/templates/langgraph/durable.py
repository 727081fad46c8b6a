"""An attempt of a durable run on a graph: where it goes on, why it stops before the end."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NoReturn, TypeVar

import orjson
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT
from langgraph.constants import START
from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt

from runtime.domain.repositories.checkpoints import CheckpointStore, Progress
from runtime.domain.services.durability import (
    ApprovalRequest,
    Decision,
    Durability,
    RunSuspended,
)
from runtime.templates.langgraph.checkpoints import (
    AttemptSaver,
    Write,
    finished_tasks,
    pending_interrupts,
)
from runtime.templates.langgraph.state import StateCodec
from runtime.templates.langgraph.steps import Steps, answers_in, callers_calls
from runtime.templates.scope import RunScope

_ASKED = "approval:"
"""Before the key of a request, in the id of the interrupt that stands for it."""
_BREAKPOINT = "breakpoint:"
_CUT = ("length", "content_filter")
G = TypeVar("G", bound=Pregel[Any, Any, Any, Any])


class Passage:
    """From the newest checkpoint, if there is one, as far as the attempt comes."""

    def __init__(
        self, store: CheckpointStore, codec: StateCodec, scope: RunScope, durable: Durability
    ) -> None:
        self._scope = scope
        self._durable = durable
        run = scope.input.run_id
        self._saver = AttemptSaver(store, codec, run, self)
        self._found: CheckpointTuple | None = None
        self.steps: Steps | None = None
        self.control = RunControl()

    async def open(self) -> bool:
        """Whether it goes on from a checkpoint, so that the run's input counts no more."""
        self._found = found = await self._saver.open()
        self._durable.on_stop = self.control.request_drain
        if self._durable.stopping:
            self.control.request_drain()
        self._scope.pause = paused
        if found is None:
            return False
        self._remember(found)
        if self._saver.source == "turn":
            return False
        self._durable.restarted = False
        return True

    def begins_anew(self) -> None:
        """What it is about to say is all that the run ever said."""
        self._durable.restarted = True

    def graph(self, graph: G) -> G:
        """The same one, with its steps kept."""
        kept = copy(graph)
        kept.checkpointer = self._saver
        self._saver.hands_on = START in graph.nodes
        return kept

    @property
    def finished(self) -> set[str]:
        """Ids of the tasks of the next step that are not run again."""
        return finished_tasks(self._found.pending_writes) if self._found else set()

    @property
    def values(self) -> Mapping[str, Any]:
        """The state that it goes on from."""
        return self._found.checkpoint["channel_values"] if self._found else {}

    def start(self) -> Command[Any] | None:
        """In place of the input, for going on."""
        assert self._found is not None
        decided = self._durable.decisions
        answers = {
            each.id: answer_of(decided[each.id])
            for each in pending_interrupts(self._found.pending_writes)
            if each.id in decided
        }
        return Command(resume=answers) if answers else None

    def check_breakpoint(self, graph: Pregel[Any, Any, Any, Any]) -> None:
        """Raises RunSuspended where an earlier attempt stopped in front of a node to be passed
        only with somebody's word."""
        if self._found is None or not graph.interrupt_before_nodes:
            return
        key = f"{_BREAKPOINT}{self._found.checkpoint['id']}"
        nodes = next_nodes(self._found)
        before = graph.interrupt_before_nodes
        if key not in self._durable.decisions and (before == "*" or {*nodes} & {*before}):
            raise RunSuspended([_breakpoint(key, nodes)])

    def check_suspended(self, *, at_breakpoint: bool) -> None:
        """Raises RunSuspended when steps wait for a person."""
        requests = dict(self._scope.requests)
        for each in self._saver.interrupts.values():
            if not each.id.startswith(_ASKED):
                value = plain_json(each.value)
                requests[each.id] = ApprovalRequest(kind="interrupt", key=each.id, value=value)
        if at_breakpoint and not requests:
            key = f"{_BREAKPOINT}{self._saver.newest_id}"
            requests[key] = _breakpoint(key, ())
        if requests:
            raise RunSuspended(list(requests.values()))

    async def done(self, task_id: str, writes: Sequence[Write]) -> None:
        if self.steps is None:
            return
        said = dict(writes)
        if INTERRUPT in said:
            self.steps.left(task_id)
        else:
            await self.steps.ended(task_id, list(writes), said.get(ERROR))

    async def flush(self, progress: Callable[[], Progress]) -> None:
        await self._durable.flush(progress)

    def _remember(self, found: CheckpointTuple) -> None:
        """What earlier attempts showed is not shown again."""
        scope = self._scope
        state = found.checkpoint["channel_values"]
        said = [*answers_in(state), *answers_in([write[2] for write in found.pending_writes or ()])]
        scope.shown.update(each.id for each in said if each.id)
        if self._saver.source in ("copy", "fork", "turn"):
            return
        own = [each for each in said if each.id and not each.id.startswith("in_")]
        scope.spoke = any(each.text for each in own)
        scope.caller_calls = sum(len(callers_calls(each, scope)) for each in own)
        if own:
            _remember_finish(own[-1], scope)


def _remember_finish(message: AIMessage, scope: RunScope) -> None:
    reason = message.response_metadata.get("finish_reason")
    if callers_calls(message, scope):
        scope.finish_reason = "tool_calls"
    elif reason in _CUT:
        scope.finish_reason = reason


def paused(request: ApprovalRequest) -> NoReturn:
    """Leaves a node. LangGraph lets the nodes beside it end, and keeps what they made."""
    about = {"tool": request.tool, "arguments": request.arguments, "value": request.value}
    raise GraphInterrupt((Interrupt({"kind": request.kind, **about}, f"{_ASKED}{request.key}"),))


def answer_of(decision: Decision) -> Any:  # noqa: ANN401
    """What `interrupt` returns: the value that came with the decision; without one, whether it
    is approved."""
    if decision.value is not None:
        return decision.value
    return decision.decision != "reject"


def next_nodes(found: CheckpointTuple) -> Sequence[str]:
    """Of a compiled StateGraph: what the edges into its nodes say."""
    return nodes_after(found.checkpoint["channel_values"])


def nodes_after(values: Mapping[str, Any]) -> Sequence[str]:
    names = [name[len("branch:to:") :] for name in values if name.startswith("branch:to:")]
    for name, met in values.items():
        if name.startswith("join:"):
            awaited, _, node = name[len("join:") :].rpartition(":")
            if set(awaited.split("+")) == set(met):
                names.append(node)
    return sorted(names)


def plain_json(value: object) -> Any:  # noqa: ANN401
    return orjson.loads(orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS))


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


def _breakpoint(key: str, nodes: Sequence[str]) -> ApprovalRequest:
    return ApprovalRequest(kind="interrupt", key=key, value={"before": list(nodes)})
