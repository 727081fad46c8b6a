"""What an agent knows from earlier runs, as templates get it."""

from collections.abc import Sequence
from typing import Literal, Protocol

from runtime.domain.entities.agents import Agent
from runtime.domain.entities.memories import Fact, FoundFact
from runtime.domain.services.executor import RunInput

ScopeName = Literal["user", "agent", "shared"]


class RunMemory(Protocol):
    """Facts of one run's user, and what the project shares with its agent: nobody else's.

    Every call is a transaction of its own. Calls raise InvalidValue for what no fact can be, and
    DatabaseUnavailable.
    """

    async def remember(
        self,
        text: str,
        *,
        key: str | None = None,
        value: object = None,
        tags: Sequence[str] = (),
        scope: ScopeName = "agent",
        namespace: str = "",
        expires_in_s: float | None = None,
    ) -> Fact:
        """Doing it twice leaves one fact: under one key the later stays, without one the same
        text is not stored again. Raises MemoryFull; Forbidden for the scope `shared` where the
        template does not write there."""

    async def find(
        self, key: str, *, scope: ScopeName = "agent", namespace: str = ""
    ) -> Fact | None: ...

    async def search(
        self,
        query: str,
        *,
        limit: int = 5,
        scope: ScopeName | None = None,
        tag: str | None = None,
        namespace: str = "",
    ) -> Sequence[FoundFact]:
        """By words, what fits best first; of every scope that the run sees, or of one. Below
        `namespace`, if there is one."""

    async def list(
        self,
        *,
        limit: int = 50,
        scope: ScopeName | None = None,
        tag: str | None = None,
        namespace: str = "",
    ) -> Sequence[Fact]:
        """Newest first."""

    async def namespaces(self, *, scope: ScopeName = "agent", namespace: str = "") -> Sequence[str]:
        """Those in use below `namespace`, in order."""

    async def forget(
        self, id_or_key: str, *, scope: ScopeName = "agent", namespace: str = ""
    ) -> bool:
        """Whether there was such a fact; `scope` and `namespace` say where a key is looked for.
        Raises Forbidden as `remember` does."""


class MemoryService(Protocol):
    def of(self, input: RunInput, agent: Agent, *, shares: bool = False) -> RunMemory:
        """What the run of `input` may know; with `shares` it may write what all of the project's
        users then share."""
