"""Which providers each project has: the operator's, and those that it registered itself."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from runtime.domain.entities.providers import Provider as RegisteredProvider
from runtime.domain.errors import DatabaseUnavailable, InvalidValue
from runtime.domain.events.base import Event
from runtime.domain.repositories.providers import ProviderBook
from runtime.domain.value_objects.ids import ProjectId, ProviderId
from runtime.infrastructure.providers.live import LiveModel, LiveProvider
from runtime.infrastructure.providers.routing import ordered

logger = logging.getLogger(__name__)

FRESH_S = 3.0
"""How long a change by another replica may go unseen; our own is seen at once."""
Connect = Callable[[RegisteredProvider], LiveProvider]
"""From what is stored to what is called; without I/O."""


class Directory:
    def __init__(
        self,
        own: Sequence[LiveProvider],
        default_model: str,
        book: ProviderBook | None = None,
        connect: Connect | None = None,
    ) -> None:
        """`own`: the operator's. Raises InvalidValue when none of them serves `default_model`."""
        self._own: Mapping[str, LiveProvider] = {each.id: each for each in own}
        self._default_model = default_model
        self._book = book
        self._connect = connect
        self._registered: dict[tuple[ProjectId, ProviderId], LiveProvider] = {}
        self._retired: set[LiveProvider] = set()
        self._refreshing: asyncio.Task[None] | None = None
        # Of two reads at once the older one might be applied last.
        self._loading = asyncio.Lock()
        self._of("default", default_model)

    def providers(self, project: ProjectId) -> list[LiveProvider]:
        its = [each for (owner, _), each in self._registered.items() if owner == project]
        names = {each.id for each in its}
        return [*its, *(each for name, each in self._own.items() if name not in names)]

    @property
    def every_provider(self) -> list[LiveProvider]:
        return [*self._own.values(), *self._registered.values()]

    def find(self, project: ProjectId, name: str) -> LiveProvider | None:
        return self._registered.get((project, ProviderId(name))) or self._own.get(name)

    def model(self, project: ProjectId, reference: str | None) -> LiveModel:
        """`provider/name`, or a provider's id; None is the operator's default. Raises
        InvalidValue, with the providers that there are."""
        return self._of(project, reference or self._default_model)

    def route(self, project: ProjectId, reference: str | None) -> list[LiveModel]:
        """The model and its fallbacks, in the order in which to call them now; models that are
        disabled or gone are left out. Raises InvalidValue where the model itself is not there."""
        model = self.model(project, reference)
        if not model.spec.fallbacks:
            return [model] if model.enabled else []
        peers = {model.name: (model, model.spec.weight)} if model.enabled else {}
        for fallback in model.spec.fallbacks:
            with suppress(InvalidValue):
                other = self._of(project, fallback.model)
                if other.enabled:
                    peers.setdefault(other.name, (other, fallback.weight))
        return ordered(list(peers.values()), model.spec.routing)

    async def load(self, _: Event | None = None) -> None:
        """Raises DatabaseUnavailable; what was known before then stays in force."""
        if self._book is None or self._connect is None:
            return
        async with self._loading:
            known = {key: each.mark for key, each in self._registered.items()}
            if await self._book.marks() != known:
                self._apply(await self._book.providers(), self._connect)
            await self._close_retired()

    def _apply(self, providers: Iterable[RegisteredProvider], connect: Connect) -> None:
        stored = {(each.project_id, each.id): each for each in providers}
        for key in [key for key in self._registered if key not in stored]:
            self._retire(self._registered.pop(key))
        for key, provider in stored.items():
            before = self._registered.get(key)
            if before is not None and before.mark == provider.mark:
                continue
            live = connect(provider)
            live.mark = provider.mark
            if before is not None:
                live.take_over(before)
                self._retire(before)
            self._registered[key] = live

    async def start(self) -> None:
        """Raises DatabaseUnavailable, and UpstreamMisconfigured for a provider of the operator's
        that can't be called as it is configured."""
        for provider in self._own.values():
            provider.source()
        await self.load()
        if self._book is not None:
            self._refreshing = asyncio.create_task(self._refresh(), name="provider-directory")

    async def aclose(self) -> None:
        if self._refreshing:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        for provider in {*self.every_provider, *self._retired}:
            await provider.source.aclose()

    def _of(self, project: str, reference: str) -> LiveModel:
        name, slash, rest = reference.partition("/")
        provider = self.find(ProjectId(project), name)
        if provider is None or (slash and not rest):
            there = [each.id for each in self.providers(ProjectId(project))]
            raise InvalidValue(
                f"No provider serves the model '{reference[:200]}'. "
                f"Write 'provider/name'; the providers are: {', '.join(there)}.",
                param="llm_config_id",
                details={"providers": there},
            )
        return provider.model(rest or None)

    def _retire(self, provider: LiveProvider) -> None:
        """Its calls go on to their end."""
        self._retired.add(provider)

    async def _close_retired(self) -> None:
        for provider in [each for each in self._retired if not each.in_use]:
            self._retired.discard(provider)
            await provider.source.aclose()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(FRESH_S)
            try:
                await self.load()
            except DatabaseUnavailable:
                continue
            # Whatever one load trips over, the next one is tried.
            except Exception:
                logger.exception("the providers could not be read")
