from collections.abc import Mapping, Sequence
from typing import Protocol


class AnswerSchema(Protocol):
    """A JSON Schema, ready to look at answers."""

    def problems(self, value: object) -> Sequence[str]:
        """What keeps `value`, parsed JSON, from fitting: a few lines, each with its path and
        without what stands there. Empty when it fits."""


class SchemaCompiler(Protocol):
    def compile(self, schema: Mapping[str, object], name: str, *, strict: bool) -> AnswerSchema:
        """Fetches nothing, and makes nothing that takes exponential time.

        `name` is the caller's, for messages. `strict`: the schema must keep to the part of JSON
        Schema that OpenAI's strict mode takes. Raises InvalidJsonSchema.
        """
