import asyncio
from contextlib import suppress
from dataclasses import dataclass

from runtime.application.commands.embeddings import Embed
from runtime.application.services.catalogue import AgentCatalogue
from runtime.application.services.quotas import Quotas
from runtime.domain.errors import InvalidReference, InvalidValue, ModelNotFound
from runtime.domain.services.models import EmbeddingCall, ModelServices
from runtime.domain.value_objects.embeddings import Embeddings, check_inputs, expected_tokens
from runtime.domain.value_objects.identity import KeyScope


@dataclass(frozen=True)
class EmbedHandler:
    catalogue: AgentCatalogue
    models: ModelServices
    quotas: Quotas

    async def __call__(self, command: Embed) -> Embeddings:
        """Raises Forbidden, InvalidValue, EmbeddingModelNotFound, what `Quotas.admit` raises,
        ModelUnpriced, and what a model call raises."""
        command.caller.require_scope(KeyScope.MODELS)
        check_inputs(command.inputs)
        models = self.models.of(command.caller.project_id)
        if not models.is_embedder(command.model):
            await self._refuse_agent(command)
        name = models.embedder(command.model)
        grant = await self.quotas.admit(
            command.caller, None, tokens=lambda: expected_tokens(command.inputs)
        )
        used = 0
        try:
            self.quotas.check_price(grant, command.caller.project_id, name)
            call = EmbeddingCall(command.model, command.inputs, command.dimensions, command.user)
            made = await models.embed(call)
            used = made.usage.total_tokens
        finally:
            if grant:
                await asyncio.shield(grant.settle(used))
        await asyncio.shield(self.quotas.charge(command.caller, None, made.usage, name))
        return made

    async def _refuse_agent(self, command: Embed) -> None:
        with suppress(InvalidReference, ModelNotFound):
            await self.catalogue.resolve(command.model, command.caller)
            raise InvalidValue(
                f"'{command.model}' is an agent, and agents don't embed: name an embedding model, "
                "such as 'provider/name'.",
                param="model",
            )
