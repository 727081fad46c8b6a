from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.chat import Usage, estimated_tokens

MAX_INPUTS = 2_048
MAX_TOKENS = 8_192
"""In one input."""
MAX_TOKENS_TOGETHER = 300_000
CHARACTERS_PER_TOKEN = 6
"""A generous guess: a text that is refused for its length has more tokens than the limit, hardly
ever fewer. The provider counts them."""

EmbeddingInput = str | Sequence[int]
"""A text, or its tokens."""
Vector: TypeAlias = "array[float]"
"""Numbers of four bytes, as providers send them."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    vectors: Sequence[Vector]
    """In the order of the inputs, all of one length."""
    model: str
    """As the provider reports it."""
    usage: Usage


def check_inputs(inputs: Sequence[EmbeddingInput]) -> None:
    """Raises InvalidValue for more than any embedding model takes."""
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise InvalidValue(f"Give 1 to {MAX_INPUTS} inputs.", param="input")
    together = 0
    for index, each in enumerate(inputs):
        if not each:
            raise InvalidValue(f"Input {index} is empty.", param="input")
        tokens = tokens_of(each, CHARACTERS_PER_TOKEN)
        together += tokens
        if tokens > MAX_TOKENS:
            raise InvalidValue(
                f"Input {index} has about {tokens} tokens, and {MAX_TOKENS} is the most for one.",
                param="input",
            )
    if together > MAX_TOKENS_TOGETHER:
        raise InvalidValue(
            f"The inputs have about {together} tokens together, and {MAX_TOKENS_TOGETHER} is the "
            "most in one request.",
            param="input",
        )


def expected_tokens(inputs: Sequence[EmbeddingInput]) -> int:
    """Of all of them, where nobody has counted."""
    return sum(estimated_tokens(len(e)) if isinstance(e, str) else len(e) for e in inputs)


def tokens_of(input: EmbeddingInput, characters_per_token: int) -> int:
    """At least so many, where it is a text."""
    return -(-len(input) // characters_per_token) if isinstance(input, str) else len(input)
