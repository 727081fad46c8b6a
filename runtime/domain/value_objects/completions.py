"""What callers say of the chat completions that they keep."""

from collections.abc import Mapping

from runtime.domain.errors import InvalidValue

MAX_LABELS = 16
MAX_LABEL_NAME = 64
MAX_LABEL = 512


def checked_labels(metadata: Mapping[str, object]) -> Mapping[str, str]:
    """`Metadata` of OpenAI's OpenAPI description. Raises InvalidValue."""
    if len(metadata) > MAX_LABELS:
        raise InvalidValue(f"It has at most {MAX_LABELS} keys.", param="metadata")
    return {name: _label(name, value) for name, value in metadata.items()}


def _label(name: str, value: object) -> str:
    if not 1 <= len(name) <= MAX_LABEL_NAME:
        raise InvalidValue(f"A key is 1-{MAX_LABEL_NAME} characters.", param="metadata")
    if not isinstance(value, str) or len(value) > MAX_LABEL:
        raise InvalidValue(
            f"With a completion that is kept, a value is text of at most {MAX_LABEL} characters.",
            param=f"metadata.{name}",
        )
    return value
