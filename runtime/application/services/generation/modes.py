"""How the events of one or several sources become one stream: modes by their names."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import ClassVar

from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.sources import Operator, Source, Stream
from runtime.domain.errors import InvalidValue

logger = logging.getLogger(__name__)

ENTRY_POINTS = "agent_runtime.generator_modes"
MAX_SOURCES = 8


class Mode(ABC):
    name: ClassVar[str] = ""
    """In a template folder: what requests call it."""

    def __init__(self, config: ModeConfig) -> None:  # noqa: B027 - there may be none to read
        """Reads its options."""

    @abstractmethod
    def joined(self, sources: Sequence[Source]) -> Stream:
        """Closed, it closes what it reads; the sources' runs are not its business."""


class Single(Mode):
    """A mode of one source: what it does to the stream of events."""

    @abstractmethod
    def stream(self, events: Stream) -> Stream:
        """The same events, put otherwise. Text may be cut and joined, never lost or moved."""

    def joined(self, sources: Sequence[Source]) -> Stream:
        return self.stream(sources[0].batches())


class Combinator(Mode):
    """A mode of several sources."""

    mixes: ClassVar[bool] = False
    """Whether answers of several sources come out."""

    @property
    def in_turn(self) -> bool:
        """Whether a source begins only when it is read; else all begin at once."""
        return False


MakeMode = Callable[[ModeConfig], Mode]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A mode with its configuration."""

    name: str
    mode: Mode
    providers: Sequence[str] = ()
    """Of the configuration."""
    each: Operator | None = None
    """What every source of a combinator goes through first."""


@dataclass
class GeneratorModes:
    _makers: dict[str, MakeMode] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)
    """By mode, for those that a source may take back."""
    kind: ClassVar[type] = Mode

    def register(self, name: str, make: MakeMode) -> None:
        """`make` reads the request's `generator_config`; a key that it does not read is refused.
        The last one registered under a name counts."""
        self._makers[name] = make

    def check(self, source: str, found: Sequence[type]) -> None:
        """Raises ValueError for a name that is none, or is not the source's to give."""
        for kind in found:
            name = getattr(kind, "name", "")
            if not name or (name in self._makers and self._sources.get(name) != source):
                raise ValueError(f"there is a generator mode '{name}' already; give it a `name`")

    def put(self, source: str, found: Sequence[type]) -> None:
        """Put what `source`, such as a file, defines now in place of what it did before."""
        kept = {name: make for name, make in self._makers.items() if self._of(name) != source}
        fresh = {getattr(kind, "name", ""): kind for kind in found}
        self._makers = {**kept, **fresh}
        self._sources = {
            **{name: of for name, of in self._sources.items() if of != source},
            **dict.fromkeys(fresh, source),
        }

    def drop(self, source: str) -> None:
        self.put(source, ())

    def _of(self, name: str) -> str | None:
        return self._sources.get(name)

    @property
    def names(self) -> Sequence[str]:
        return sorted(self._makers)

    def get(self, name: str) -> MakeMode:
        """Raises InvalidValue, with the modes there are."""
        return self._get(name, "generator_mode")

    def arrange(self, name: str, config: Mapping[str, object]) -> Arrangement:
        """Raises InvalidValue for an unknown mode and for a configuration that is not its own."""
        make = self.get(name)
        given = ModeConfig(config)
        mode = make(given)
        arranged = Arrangement(name, mode)
        if isinstance(mode, Combinator):
            providers = given.texts("providers", most=MAX_SOURCES)
            arranged = Arrangement(name, mode, providers, self._each(given))
        given.finish(f"The mode '{name}'")
        return arranged

    def register_entry_points(self) -> None:
        """A distribution names a mode's class, or what makes one, in its entry points."""
        for point in entry_points(group=ENTRY_POINTS):
            try:
                self.register(point.name, point.load())
            # A third party's package must not keep the runtime from starting.
            except Exception:
                logger.exception("the generator mode '%s' does not load", point.name)

    def _each(self, config: ModeConfig) -> Operator | None:
        inner = config.section("each")
        if inner is None:
            return None
        name = inner.text("mode")
        mode = self._get(name, inner.param("mode"))(inner)
        inner.finish(f"The mode '{name}'")
        if not isinstance(mode, Single):
            raise InvalidValue(
                f"'{name}' is a mode of several sources; here goes one of a single source.",
                param=inner.param("mode"),
            )
        return mode.stream

    def _get(self, name: str, param: str) -> MakeMode:
        if make := self._makers.get(name):
            return make
        raise InvalidValue(
            f"There is no such mode; the modes are: {', '.join(self.names)}.",
            param=param,
            details={"modes": list(self.names)},
        )
