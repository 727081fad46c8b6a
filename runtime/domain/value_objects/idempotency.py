"""A request that its caller may send again without having it carried out again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.ids import ProjectId, UserId

MAX_KEY = 255
_VISIBLE = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's own name for one request; the same text of another caller is another key."""

    project_id: ProjectId
    owner_id: UserId
    text: str

    def __post_init__(self) -> None:
        if not _VISIBLE.fullmatch(self.text):
            raise InvalidValue(
                f"An Idempotency-Key is 1-{MAX_KEY} visible ASCII characters, and sent once.",
                param="Idempotency-Key",
            )


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out a key's request, for as long as its lease is renewed."""

    key: IdempotencyKey
    fingerprint: str
    """Of everything that makes the request; another request has another one."""
    token: str
    """Tells this holder from the one who takes over once the lease has run out."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
