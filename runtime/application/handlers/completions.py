from dataclasses import dataclass

from runtime.application.commands.completions import DeleteCompletion, RelabelCompletion
from runtime.domain.entities.completions import ChatCompletion
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.completions import checked_labels
from runtime.domain.value_objects.identity import KeyScope


@dataclass(frozen=True)
class RelabelCompletionHandler:
    uow: UnitOfWorkFactory

    async def __call__(self, command: RelabelCompletion) -> ChatCompletion:
        """Raises CompletionNotFound, InvalidValue."""
        command.actor.require_scope(KeyScope.MODELS)
        labels = checked_labels(command.metadata)
        async with self.uow(command.actor.scope) as work:
            await work.completions.relabel(command.id, labels)
            completion = await work.completions.get(command.id)
            await work.commit()
        return completion


@dataclass(frozen=True)
class DeleteCompletionHandler:
    uow: UnitOfWorkFactory

    async def __call__(self, command: DeleteCompletion) -> None:
        """Raises CompletionNotFound."""
        command.actor.require_scope(KeyScope.MODELS)
        async with self.uow(command.actor.scope) as work:
            await work.completions.remove(command.id)
            await work.commit()
