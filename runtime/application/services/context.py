from collections.abc import Sequence
from dataclasses import dataclass

from runtime.application.commands.responses import Asked
from runtime.domain.errors import InvalidValue, ResponseInProgress
from runtime.domain.unit_of_work import UnitOfWorkFactory
from runtime.domain.value_objects.chat import MAX_MESSAGES, ChatRole, Message
from runtime.domain.value_objects.identity import Principal
from runtime.domain.value_objects.items import Item, messages_of


@dataclass(frozen=True)
class ResponseContext:
    """What an agent reads of a response's input and of the responses that it follows on."""

    uow: UnitOfWorkFactory

    async def messages(self, caller: Principal, asked: Asked) -> list[Message]:
        """Without a conversation's: whoever keeps that adds them.

        Raises PreviousResponseNotFound, ResponseInProgress, InvalidValue.
        """
        messages = messages_of([*await self._history(caller, asked), *asked.input])
        system = [Message(ChatRole.SYSTEM, asked.instructions)] if asked.instructions else []
        messages = _fitting(messages, MAX_MESSAGES - len(system), truncate=asked.truncate)
        if not asked.conversation:
            _check_calls(messages)
        return system + messages

    async def _history(self, caller: Principal, asked: Asked) -> list[Item]:
        if not asked.previous_id:
            return []
        async with self.uow(caller.scope) as work:
            chain = await work.responses.chain(asked.previous_id)
        if not chain[-1].status.final:
            raise ResponseInProgress(asked.previous_id, "wait for it, then follow on it")
        return [item for each in chain for item in (*each.input, *each.output)]


def _fitting(messages: list[Message], most: int, *, truncate: bool) -> list[Message]:
    """Raises InvalidValue where nothing may be dropped."""
    if len(messages) <= most:
        return messages
    if not truncate:
        raise InvalidValue(
            f"The context has {len(messages)} messages and may have {most}; "
            "'truncation': 'auto' drops the oldest.",
            param="input",
        )
    kept = messages[-most:]
    # A function's output is nothing without its call.
    while kept and kept[0].role is ChatRole.TOOL:
        kept = kept[1:]
    return kept


def _check_calls(messages: Sequence[Message]) -> None:
    """Raises InvalidValue: a model takes a call only with its output, and the other way round."""
    waiting: dict[str, None] = {}
    for message in messages:
        if message.role is ChatRole.TOOL:
            if message.tool_call_id not in waiting:
                raise InvalidValue(
                    "No tool call found for function call output with call_id "
                    f"{message.tool_call_id}.",
                    param="input",
                )
            del waiting[message.tool_call_id]
            continue
        if waiting:
            break
        waiting = {call.id: None for call in message.tool_calls}
    if waiting:
        raise InvalidValue(
            f"No tool output found for function call {next(iter(waiting))}.", param="input"
        )
