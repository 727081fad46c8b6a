import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from runtime.application.commands.runs import ExecuteAgent
from runtime.application.commands.streaming import StreamChat
from runtime.application.handlers.runs import ExecuteAgentHandler
from runtime.application.services.execution import Execution
from runtime.application.services.generation.generation import Generation, Source
from runtime.application.services.generation.modes import (
    MAX_SOURCES,
    Arrangement,
    Combinator,
    GeneratorModes,
)
from runtime.domain.errors import InvalidReference, InvalidValue, ModelNotFound


@dataclass(frozen=True)
class StreamChatHandler:
    execute: ExecuteAgentHandler
    modes: GeneratorModes

    async def __call__(self, command: StreamChat) -> Generation:
        """Raises InvalidValue for a mode or a configuration that there is not, for sources that
        the mode does not have, and what ExecuteAgentHandler raises."""
        arranged = self.modes.arrange(command.mode, command.config)
        names = _names(command, arranged)
        self._check(command, names)
        sources = [
            Source(index, name or "default", partial(self._begin, command, name))
            for index, name in enumerate(names)
        ]
        for source in sources:
            source.through = arranged.each
        await _begun(sources, arranged)
        return Generation(sources, arranged.mode)

    def _check(self, command: StreamChat, names: Sequence[str]) -> None:
        """Before any of them begins: who is asked for by a wrong name is not left for later."""
        if command.agent is not None:
            return
        if command.session is not None:
            raise InvalidValue(
                "A conversation is an agent's: it goes with 'agent_id'.", param="session_id"
            )
        for index, name in enumerate(names):
            try:
                self.execute.direct.agent(name or None, command.caller)
            except InvalidValue as error:
                param = f"providers.{index}" if len(names) > 1 else "provider_id"
                raise InvalidValue(str(error), param=param, details=error.details) from error

    async def _begin(self, command: StreamChat, name: str) -> Execution:
        execute = ExecuteAgent(
            caller=command.caller,
            model=name,
            direct=command.agent is None,
            messages=command.messages,
            options=command.options,
            session=command.session,
            metadata=command.metadata,
            stream=command.stream,
        )
        try:
            return await self.execute(execute)
        except (ModelNotFound, InvalidReference) as error:
            error.param = "agent_id"
            raise


def _names(command: StreamChat, arranged: Arrangement) -> Sequence[str]:
    several = isinstance(arranged.mode, Combinator)
    if isinstance(arranged.mode, Combinator) and arranged.mode.mixes and not command.tells_apart:
        raise InvalidValue(
            f"It can't tell apart the several answers of the mode '{arranged.name}'.",
            param="stream_format",
        )
    if command.agent is not None:
        if several:
            raise InvalidValue(
                f"The mode '{arranged.name}' asks several 'providers', and no agent.",
                param="agent_id",
            )
        return [command.agent]
    if not several:
        if len(command.models) > 1:
            raise InvalidValue(
                f"The mode '{arranged.name}' asks one provider; for several there are "
                "'interleaved' and 'priority'.",
                param="providers",
            )
        return command.models or [""]
    if command.models and arranged.providers and command.models != arranged.providers:
        raise InvalidValue("They are given twice, and differ.", param="generator_config.providers")
    names = command.models or arranged.providers
    if not 1 <= len(names) <= MAX_SOURCES or len(set(names)) < len(names):
        raise InvalidValue(
            f"The mode '{arranged.name}' asks 1-{MAX_SOURCES} 'providers', each once.",
            param="providers",
        )
    return names


async def _begun(sources: Sequence[Source], arranged: Arrangement) -> None:
    """All at once: none has ended, and left its place, before the others are admitted."""
    mode = arranged.mode
    in_turn = isinstance(mode, Combinator) and mode.in_turn
    others = [] if in_turn else [asyncio.create_task(each.begin()) for each in sources[1:]]
    try:
        # In the caller's own task: what it leaves there, such as how much is left, is its reader's.
        await sources[0].begin()
        await asyncio.gather(*others)
    except BaseException:
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for source in sources:
            await source.aclose()
        raise
