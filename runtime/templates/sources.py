"""Which modules a configuration may name: installed packages, and files in template folders."""

import importlib
import importlib.metadata
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from keyword import iskeyword
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import orjson

OURS = "runtime"
DISTRIBUTION = "agent-runtime"

_folders: set[Path] = set()


class ModuleRefused(ValueError):
    """The text is for the person who named the module."""


def allow_folder(path: Path) -> None:
    """Let configurations name the modules in `path`, which is on the import path."""
    _folders.add(path.resolve())


def forbid_folder(path: Path) -> None:
    _folders.discard(path.resolve())


def find_module(name: str) -> ModuleSpec:
    """Finds a module's source file without importing anything. Raises ModuleRefused."""
    parts = name.split(".")
    if not all(part.isidentifier() and not iskeyword(part) for part in parts):
        raise ModuleRefused(f"'{name}' is no module name")
    if parts[0] in sys.stdlib_module_names or parts[0] == OURS or "__main__" in parts:
        raise ModuleRefused(f"'{name}' can't be used: name a module of yours")
    spec = _find(parts)
    if not isinstance(spec.loader, SourceFileLoader) or not spec.origin:
        raise ModuleRefused(f"'{name}' is no Python source file")
    file = Path(spec.origin).resolve()
    if not any(file.is_relative_to(root) for root in _allowed_roots()):
        raise ModuleRefused(f"'{name}' is neither in an installed package nor in a template folder")
    return spec


def _find(parts: list[str]) -> ModuleSpec:
    # importlib.util.find_spec would import the packages around the module.
    importlib.invalidate_caches()
    locations = None
    spec = None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if spec is None or locations is not None:
            finders = (finder.find_spec(name, locations, None) for finder in sys.meta_path)
            spec = next((found for found in finders if found), None)
        else:
            spec = None
        if spec is None:
            raise ModuleRefused(f"There is no module '{name}'")
        locations = spec.submodule_search_locations
    assert spec is not None
    return spec


def _allowed_roots() -> Iterator[Path]:
    yield from _folders
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    installed += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        installed.append(site.getusersitepackages())
    yield from (Path(path).resolve() for path in installed)
    for distribution in importlib.metadata.distributions():
        if distribution.name != DISTRIBUTION and (root := _editable_root(distribution)):
            yield root


def _editable_root(distribution: importlib.metadata.Distribution) -> Path | None:
    """Where a package that was installed for development has its files (PEP 610)."""
    text = distribution.read_text("direct_url.json")
    origin = orjson.loads(text) if text else {}
    url = urlsplit(origin.get("url", ""))
    if url.scheme != "file" or not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(url.path)).resolve()
