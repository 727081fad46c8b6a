"""Where templates come from: packages beside this file, entry points, and folders of files.

A folder's unit is one `name.py` or one package `name/`; names that begin with `_` are helpers of
the others. Units are loaded under names of their own, so that two folders may hold the same
file name and a new edition never half replaces an old one.
"""

import hashlib
import importlib
import importlib.util
import inspect
import logging
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from runtime.infrastructure import frameworks
from runtime.infrastructure.frameworks.executor import FrameworkExecutor
from runtime.infrastructure.frameworks.registry import Template, TemplateRegistry
from runtime.templates.base import BaseAgentTemplate
from runtime.templates.sources import allow_folder

logger = logging.getLogger(__name__)

BUILT_IN = "built-in"
ENTRY_POINTS = "agent_runtime.templates"


def built_in_executors() -> Mapping[str, FrameworkExecutor]:
    """By framework, from `frameworks/<name>/executor.py`."""
    found = {}
    for package in _packages():
        if importlib.util.find_spec(f"{package}.executor"):
            module = importlib.import_module(f"{package}.executor")
            for kind in _classes(module, FrameworkExecutor):
                executor: FrameworkExecutor = kind()
                found[executor.framework] = executor
    return found


def register_built_in(registry: TemplateRegistry) -> None:
    templates: list[Template] = []
    for package in _packages():
        if importlib.util.find_spec(f"{package}.templates"):
            folder = importlib.import_module(f"{package}.templates")
            for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
                templates += _classes(importlib.import_module(module.name), BaseAgentTemplate)
    registry.register(templates, BUILT_IN)


def register_entry_points(registry: TemplateRegistry) -> None:
    """A distribution names a template class, or a module of them, in its entry points."""
    for point in entry_points(group=ENTRY_POINTS):
        source = f"{point.dist.name if point.dist else 'entry point'}:{point.name}"
        try:
            found = point.load()
            is_module = isinstance(found, ModuleType)
            templates = list(_classes(found, BaseAgentTemplate)) if is_module else [found]
            registry.register(templates, source)
        # A third party's package must not keep the runtime from starting.
        except Exception as error:
            logger.exception("templates of %s do not load", source)
            registry.report(source, _reason(error))


class Shelf(Protocol):
    """Takes what else a folder's files define beside their templates."""

    @property
    def kind(self) -> type:
        """Its concrete subclasses are taken, and its instances."""

    def check(self, source: str, found: Sequence[Any]) -> None:
        """Raises ValueError when one is not usable."""

    def put(self, source: str, found: Sequence[Any]) -> None:
        """What `source` defines now, which was checked, in place of what it did before."""

    def drop(self, source: str) -> None:
        """`source` is gone."""


class TemplateFolder:
    """Keeps the registry, and the shelves, in step with one folder."""

    def __init__(
        self, path: Path, registry: TemplateRegistry, shelves: Sequence[Shelf] = ()
    ) -> None:
        self.path = path.resolve()
        self._registry = registry
        self._shelves = shelves
        self._digests: dict[str, str] = {}
        self._modules = f"agent_templates_{hashlib.sha256(str(self.path).encode()).hexdigest()[:8]}"

    def sync(self) -> None:
        """Load what is new or changed, drop what is gone. Never raises for what a file does."""
        self.path.mkdir(parents=True, exist_ok=True)
        if str(self.path) not in sys.path:  # at the end: a file here never hides a package
            sys.path.append(str(self.path))
        allow_folder(self.path)
        units = {path.name: path for path in self._units()}
        helpers = self._digest_of(self._helpers())
        for gone in self._digests.keys() - units.keys():
            del self._digests[gone]
            self._registry.unregister(gone)
            for shelf in self._shelves:
                shelf.drop(gone)
        for name, path in units.items():
            digest = helpers + self._digest_of([path])
            if self._digests.get(name) != digest:
                self._digests[name] = digest
                self._load(name, path)

    def _units(self) -> Iterator[Path]:
        for path in sorted(self.path.iterdir()):
            if path.name.startswith(("_", ".")):
                continue
            if path.suffix == ".py" or (path / "__init__.py").is_file():
                yield path

    def _helpers(self) -> Sequence[Path]:
        return sorted(self.path.glob("_*.py"))

    def _digest_of(self, paths: Sequence[Path]) -> str:
        files = [f for p in paths for f in (sorted(p.rglob("*.py")) if p.is_dir() else [p])]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

    def _load(self, name: str, path: Path) -> None:
        module_name = f"{self._modules}_{path.stem}"
        before = self._forget(module_name)
        try:
            with _uncached():
                module = _import_file(module_name, path)
            for shelf in self._shelves:
                shelf.check(name, _own(module, module_name, shelf.kind))
            self._registry.register(_own(module, module_name, BaseAgentTemplate), name)
            for shelf in self._shelves:
                shelf.put(name, _own(module, module_name, shelf.kind))
            logger.info("templates of %s loaded", name)
        # Whatever a template file does, even sys.exit(), is its own problem.
        except BaseException as error:
            self._forget(module_name)
            sys.modules.update(before)
            if isinstance(error, KeyboardInterrupt):
                raise
            logger.warning("templates of %s do not load: %s", name, _reason(error))
            self._registry.report(name, self._explain(error, path))

    def _forget(self, module_name: str) -> dict[str, ModuleType]:
        """Take the unit's modules, and the folder's helpers, out of the import cache."""
        gone = {
            name: module
            for name, module in sys.modules.items()
            if name == module_name
            or name.startswith(f"{module_name}.")
            or _is_file_in(module, self.path, name)
        }
        for name in gone:
            del sys.modules[name]
        return gone

    def _explain(self, error: BaseException, path: Path) -> str:
        """The error and the line of the file it comes from, without the folder's path."""
        if isinstance(error, SyntaxError):
            where = f"line {error.lineno}"
            return f"SyntaxError: {error.msg} ({where})"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame for frame in frames if Path(frame.filename).is_relative_to(path)]
        line = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
        return _reason(error).replace(str(self.path), "…") + line


def _import_file(name: str, path: Path) -> ModuleType:
    is_package = path.is_dir()
    spec = importlib.util.spec_from_file_location(
        name,
        path / "__init__.py" if is_package else path,
        submodule_search_locations=[str(path)] if is_package else None,
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    importlib.invalidate_caches()
    spec.loader.exec_module(module)
    return module


@contextmanager
def _uncached() -> Iterator[None]:
    """Compiled from source every time: two edits within a second would share a cached file."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _is_file_in(module: ModuleType, folder: Path, name: str) -> bool:
    file = getattr(module, "__file__", None)
    if not file or name.startswith("agent_templates_"):
        return False
    return Path(file).is_relative_to(folder)


def _packages() -> Iterator[str]:
    for module in pkgutil.iter_modules(frameworks.__path__, f"{frameworks.__name__}."):
        if module.ispkg:
            yield module.name


def _classes(module: ModuleType, base: type) -> Iterator[type]:
    """Concrete subclasses of `base` that `module` itself defines."""
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and not inspect.isabstract(value)
        ):
            yield value


def _own(module: ModuleType, name: str, kind: type) -> list[Any]:
    """What a unit defines of a kind, its concrete subclasses and its instances: a package may do
    so in its submodules and import them."""
    found = [value for value in vars(module).values() if _is_a(value, kind)]
    own = [each for each in found if f"{each.__module__}.".startswith(f"{name}.")]
    return list({id(each): each for each in own}.values())


def _is_a(value: object, kind: type) -> bool:
    if isinstance(value, type):
        return issubclass(value, kind) and not inspect.isabstract(value)
    return isinstance(value, kind)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
