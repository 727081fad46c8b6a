from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.value_objects.embeddings import EmbeddingInput
from runtime.domain.value_objects.identity import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    caller: Principal
    model: str
    """`provider/name`, a provider's name, or the name of a model of the default provider."""
    inputs: Sequence[EmbeddingInput]
    dimensions: int | None = None
    user: str | None = None
