"""Turns of a conversation: what is remembered goes in, what was said is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.services.histories import History, HistoryCache, load
from runtime.application.services.keepers import LoneKeeper
from runtime.application.services.session_holds import Hold, SessionDesk
from runtime.domain.entities.agents import Agent
from runtime.domain.entities.runs import Run, RunStatus
from runtime.domain.entities.sessions import Session
from runtime.domain.errors import ConversationNotFound, UnsupportedParameter
from runtime.domain.events.runs import HistorySummarised, RunEvent
from runtime.domain.repositories.sessions import Addition, SessionKey, SessionName
from runtime.domain.services.executor import AgentInstance
from runtime.domain.unit_of_work import UnitOfWork
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.domain.value_objects.ids import SessionId
from runtime.domain.value_objects.items import Item, items_of
from runtime.domain.value_objects.memory import (
    Known,
    Merged,
    Placed,
    Recall,
    items_from,
    known,
    merged,
    split,
)


@dataclass
class Turn(LoneKeeper):
    """One turn of a session, from the hold on it to its release."""

    hold: Hold
    desk: SessionDesk
    cache: HistoryCache
    command: ExecuteAgent
    """With the messages that the model is to see."""
    items: Sequence[Item]
    """What the caller adds."""
    kept: History
    """What stays of memory."""
    cut: int | None
    fold_to: int
    """The position up to which a summary that the run makes tells the conversation."""
    forget_summary: bool
    _placed: list[Placed] = field(default_factory=list)

    @property
    def session(self) -> Session:
        return self.hold.session

    async def keep(self, work: UnitOfWork, run: Run, events: Sequence[RunEvent]) -> None:
        """Only what was answered to its end is remembered."""
        if (addition := self._addition(run, events)) is not None:
            await work.sessions.write(self.session, self.hold.holder, addition, run.ended_at)
            self.hold.written = True

    async def keep_alone(self, run: Run, events: Sequence[RunEvent]) -> None:
        if (addition := self._addition(run, events)) is not None:
            await self.desk.write(self.hold, addition, run.ended_at)

    async def release(self) -> None:
        if self.hold.written:
            self._remember()
        await self.desk.end(self.hold)

    def _addition(self, run: Run, events: Sequence[RunEvent]) -> Addition | None:
        if run.status is not RunStatus.COMPLETED:
            return None
        items = [*self.items, *items_of(run.id, events)]
        start = self.session.length if self.cut is None else self.cut
        self._placed = [Placed(at, item) for at, item in enumerate(items, start)]
        made = next((each.text for each in events if type(each) is HistorySummarised), None)
        if made is not None:
            return Addition(items, self.cut, made, self.fold_to)
        return Addition(items, self.cut, "" if self.forget_summary else None)

    def _remember(self) -> None:
        """Good only if what was written is committed: else the store has another revision."""
        added = known(self._placed)
        before = self.kept.messages
        goes_on = (
            before
            and added
            and before[-1].message.role is added[0].message.role is ChatRole.ASSISTANT
        )
        if goes_on:
            self.cache.drop(self.session.id)
            return
        history = History([*before, *added], self.kept.start)
        self.cache.put(self.session.id, self.hold.holder, history)


@dataclass
class SessionTurns:
    desk: SessionDesk
    cache: HistoryCache = field(default_factory=HistoryCache)

    async def begin(
        self,
        agent: Agent,
        command: ExecuteAgent,
        instance: AgentInstance,
        holder: str | None = None,
    ) -> Turn:
        """Raises UnsupportedParameter, ConversationNotFound, SessionBusy. `holder`: see
        `SessionDesk.take`."""
        ref = command.session
        assert ref is not None
        if command.choices > 1:
            raise UnsupportedParameter("n", "a turn of a session has one answer.")
        hold = await self.desk.take(command.caller, session_key(agent, ref), holder)
        try:
            return await self._begun(hold, command, ref, instance)
        except BaseException:
            await self.desk.end(hold)
            raise

    async def check(self, agent: Agent, command: ExecuteAgent, ref: SessionRef) -> None:
        """That there is the conversation, if it has to be. Raises ConversationNotFound."""
        key = session_key(agent, ref)
        if not isinstance(key, SessionName):
            async with self.desk.uow(command.caller.scope) as work:
                if await work.sessions.find(key) is None:
                    raise ConversationNotFound(ref.name)

    async def _begun(
        self, hold: Hold, command: ExecuteAgent, ref: SessionRef, instance: AgentInstance
    ) -> Turn:
        instructions, sent = split(command.messages)
        if instance.history_summary:
            history = await self._history(hold, None, since=hold.session.summarised)
        else:
            history = await self._history(hold, instance.history_messages)
        merge = _merge(history, command, sent, ref)
        if merge is None:
            history = await self._history(hold, None)
            merge = _merge(history, command, sent, ref)
            assert merge is not None
        stay = history.messages[: merge.keep]
        cut = (stay[-1].end if stay else 0) if merge.keep < len(history.messages) else None
        lost = cut is not None and cut < hold.session.summarised
        shown, recall, fold_to = _shown(
            stay[merge.shown_from :], merge, hold.session, instance, lost=lost
        )
        return Turn(
            hold,
            self.desk,
            self.cache,
            replace(command, messages=[*instructions, *shown], recall=recall),
            command.items or items_from(merge.new),
            History(stay, history.start),
            cut,
            fold_to,
            lost,
        )

    async def _history(self, hold: Hold, wanted: int | None, *, since: int = 0) -> History:
        session = hold.session
        if not session.length:
            return History((), 0)
        cached = self.cache.get(session)
        if cached is not None and cached.has(wanted, since):
            return cached
        async with self.desk.uow(hold.scope) as work:
            return await load(work.sessions, session, wanted, since)


def session_key(agent: Agent, ref: SessionRef) -> SessionKey:
    if ref.name.startswith("conv_"):
        return SessionId(ref.name)
    return SessionName(agent.line_id, ref.name)


def _merge(
    history: History, command: ExecuteAgent, sent: Sequence[Message], ref: SessionRef
) -> Merged | None:
    memory = [each.message for each in history.messages]
    if command.items:
        # A door that speaks of items says by itself what is new.
        return Merged(len(memory), sent)
    return merged(memory, sent, whole=ref.whole_history, complete=history.complete)


def _shown(
    stay: Sequence[Known],
    merge: Merged,
    session: Session,
    instance: AgentInstance,
    *,
    lost: bool,
) -> tuple[Sequence[Message], Recall | None, int]:
    """The messages for the model, its summary of those before them, and where one that it is to
    make now would end."""
    if merge.instead is not None:
        return merge.instead, None, 0
    window = instance.history_messages
    if not instance.history_summary or window is None:
        latest = History(stay, 0).latest(window).messages
        return [*(each.message for each in latest), *merge.new], None, 0
    told = 0 if lost else session.summarised
    rest = [each for each in stay if each.end > told]
    fold = _to_fold(rest, len(merge.new), window)
    messages = [each.message for each in rest]
    recall = Recall("" if lost else session.summary, messages[:fold])
    return [*messages[fold:], *merge.new], recall, rest[fold - 1].end if fold else told


def _to_fold(rest: Sequence[Known], new: int, window: int) -> int:
    """How many messages go into the summary, so that the next one is due in half a window: none
    while all fit, and never half of a turn."""
    surplus = len(rest) + new - window
    if surplus <= 0:
        return 0
    fold = min(len(rest), surplus + window // 2)
    while fold < len(rest) and rest[fold].message.role is not ChatRole.USER:
        fold += 1
    return fold
