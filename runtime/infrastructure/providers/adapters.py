"""The types of provider there are: built in, from installed packages, and from folders of files."""

import importlib
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from runtime.domain.errors import InvalidValue
from runtime.infrastructure.providers.base import ProviderAdapter

logger = logging.getLogger(__name__)

ENTRY_POINTS = "agent_runtime.providers"
BUILT_IN: Mapping[str, str] = {
    "anthropic": "runtime.infrastructure.providers.anthropic:AnthropicProvider",
    "azure_openai": "runtime.infrastructure.providers.openai_like:AzureOpenAIProvider",
    "demo": "runtime.infrastructure.providers.demo:DemoProvider",
    "huggingface": "runtime.infrastructure.providers.openai_like:HuggingFaceProvider",
    "local": "runtime.infrastructure.providers.openai_like:LocalProvider",
    "openai": "runtime.infrastructure.providers.openai:OpenAIProvider",
}
Adapter = type[ProviderAdapter]
_BY_HAND = "registered"


class AdapterRegistry:
    """Types by name. A type is imported when it is first asked for.

    Safe to read while another thread loads files: what is known is replaced as a whole.
    """

    kind = ProviderAdapter

    def __init__(self, installed: Iterable[EntryPoint] | None = None) -> None:
        """`installed`: a distribution names an adapter class by its type in its entry points."""
        points = entry_points(group=ENTRY_POINTS) if installed is None else installed
        self._points = {point.name: point for point in points if point.name not in BUILT_IN}
        self._loaded: dict[str, Adapter] = {}
        self._registered: dict[str, tuple[str, Adapter]] = {}
        """By type: where it comes from, and the class."""

    def types(self) -> list[str]:
        return sorted({*BUILT_IN, *self._points, *self._registered})

    def get(self, type: str) -> Adapter:
        """Raises InvalidValue with the types there are."""
        if type in self._registered:
            return self._registered[type][1]
        if type not in self._loaded:
            self._loaded[type] = self._load(type)
        return self._loaded[type]

    def register(self, adapter: Adapter) -> None:
        """In place of one registered before. Raises ValueError for one that is not usable, or
        whose type is built in or comes from elsewhere."""
        self._registered = {
            **self._registered,
            self._type_of(adapter, _BY_HAND): (_BY_HAND, adapter),
        }

    def unregister(self, type: str) -> None:
        self._registered = {k: v for k, v in self._registered.items() if k != type}

    def check(self, source: str, found: Iterable[type]) -> None:
        """Raises ValueError as `register` does."""
        for each in found:
            self._type_of(each, source)

    def put(self, source: str, found: Iterable[type]) -> None:
        """What `source`, such as a file, holds now in place of what it held before, all or
        nothing. Raises ValueError as `register` does."""
        fresh = {self._type_of(each, source): (source, each) for each in found}
        self._registered = self._without(source) | fresh

    def drop(self, source: str) -> None:
        self._registered = self._without(source)

    def _without(self, source: str) -> dict[str, tuple[str, Adapter]]:
        return {k: v for k, v in self._registered.items() if v[0] != source}

    def _type_of(self, adapter: type, source: str) -> str:
        name = getattr(adapter, "type", None)
        if not issubclass(adapter, ProviderAdapter) or not isinstance(name, str) or not name:
            raise ValueError(f"{adapter.__name__} is a provider adapter without a `type`")
        owner = self._registered.get(name, (source, None))[0]
        if name in BUILT_IN or name in self._points or owner != source:
            raise ValueError(f"the provider type '{name}' is already there; give yours another")
        return name

    def _load(self, type: str) -> Adapter:
        if type in BUILT_IN:
            module, _, name = BUILT_IN[type].partition(":")
            found: Adapter = getattr(importlib.import_module(module), name)
            return found
        if type not in self._points:
            types = self.types()
            raise InvalidValue(
                f"There is no provider type '{type[:100]}'. There are: {', '.join(types)}.",
                param="type",
                details={"types": types},
            )
        try:
            loaded: Adapter = self._points[type].load()
            if not issubclass(loaded, ProviderAdapter) or loaded.type != type:
                raise TypeError(f"it is no provider adapter of the type '{type}'")
        # A third party's package must not take anything else down.
        except Exception as error:
            logger.exception("the provider type %s does not load", type)
            raise InvalidValue(
                f"The provider type '{type}' is installed but does not load; the log has the "
                "cause.",
                param="type",
            ) from error
        return loaded
