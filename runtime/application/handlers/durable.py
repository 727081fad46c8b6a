"""Commands about durable runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.application.commands.durable import CancelRun, RetryRun, StartRun
from runtime.application.commands.runs import ExecuteAgent, SessionRef
from runtime.application.handlers.runs import ExecuteAgentHandler, ordered
from runtime.application.services.durable.desk import RunDesk
from runtime.application.services.durable.ordering import order_id
from runtime.application.services.webhooks.secrets import WebhookSecrets
from runtime.domain.entities.durable import Callback, DurableRun, Origin, OriginKind
from runtime.domain.errors import InvalidValue, RunNotDurable, RunNotEnded, RunNotFound
from runtime.domain.services.webhooks import WebhookSender
from runtime.domain.unit_of_work import UnitOfWork, UnitOfWorkFactory
from runtime.domain.value_objects.identity import KeyScope, Principal
from runtime.domain.value_objects.ids import RunId, new_run_id


@dataclass(frozen=True)
class StartRunHandler:
    execute: ExecuteAgentHandler
    desk: RunDesk
    secrets: WebhookSecrets
    sender: WebhookSender
    now: Callable[[], datetime]

    async def __call__(self, command: StartRun) -> DurableRun:
        """On record once this returns. Raises ModelNotFound, InvalidValue, TooManyQueuedRuns, and
        what a call of the agent raises for its options and limits."""
        return await self.desk.submit(self._told(await self._ordered(command), command))

    def _told(self, run: DurableRun, command: StartRun) -> DurableRun:
        hook = command.webhook
        if hook is None:
            return run
        self.sender.check(hook.url)
        sealed = self.secrets.seal_callback(run.project_id, run.id, hook.secret)
        return replace(run, callback=Callback(hook.url, sealed))

    async def _ordered(self, command: StartRun) -> DurableRun:
        at = self.now()
        if command.deadline and command.deadline <= max(at, command.not_before or at):
            raise InvalidValue("The deadline is before the run may begin.", param="deadline")
        asked = ExecuteAgent(
            caller=command.caller,
            model=command.model,
            messages=command.messages,
            options=command.options,
            session=SessionRef(name=command.session) if command.session else None,
            metadata=command.metadata,
        )
        agent = await self.execute.resolve(asked)
        await self.execute.check(agent, asked)
        return replace(
            ordered(asked, agent, at),
            priority=command.priority,
            not_before=command.not_before,
            deadline=command.deadline,
        )


@dataclass(frozen=True)
class CancelRunHandler:
    uow: UnitOfWorkFactory
    desk: RunDesk

    async def __call__(self, command: CancelRun) -> DurableRun:
        """Raises RunNotFound, RunNotDurable. One that has ended stays as it is."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            run = await durable_run(work, command.id, "cancelled")
        return await self.desk.cancel(run)


@dataclass(frozen=True)
class RetryRunHandler:
    uow: UnitOfWorkFactory
    desk: RunDesk
    now: Callable[[], datetime]

    async def __call__(self, command: RetryRun) -> DurableRun:
        """Raises RunNotFound, RunNotDurable, RunNotEnded."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            run = await durable_run(work, command.id, "made again")
        if not run.status.final:
            raise RunNotEnded(run.id)
        return await self.desk.submit(again(run, command.actor, self.now(), "retry"))


def again(run: DurableRun, actor: Principal, at: datetime, kind: OriginKind) -> DurableRun:
    """A new run of the same order, in the name of whoever asks for it."""
    order = replace(run.order, caller=actor, response=False)
    return DurableRun(
        # The others copy what the run begins with under its id, and that only once.
        id=order_id(at) if kind == "retry" else new_run_id(),
        project_id=actor.project_id,
        owner_id=actor.user_id,
        agent_id=run.agent_id,
        line_id=run.line_id,
        model=run.model,
        order=order,
        priority=run.priority,
        created_at=at,
        origin=Origin(kind, run.id),
    )


async def durable_run(work: UnitOfWork, id: RunId, what: str) -> DurableRun:
    """Raises RunNotFound, RunNotDurable: nobody keeps the order of other ones."""
    try:
        return await work.durable.get(id)
    except RunNotFound:
        await work.runs.get(id)
        raise RunNotDurable(id, what) from None
