"""A user's own graph by import path. It is read before it is imported: nothing else is ever run.

The attribute is a graph, or a factory of one: a function of its module that is annotated to
return a graph and takes any of `model`, `tools` and `settings`.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from runtime.templates.sources import ModuleRefused, find_module

PARAMETERS = ("model", "tools", "settings")
_GRAPH_TYPES = {"StateGraph", "CompiledStateGraph", "Pregel"}
_USES_GRAPHS = ("langgraph", "runtime.templates.langgraph")

AnyGraph = StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A graph, or what makes one."""

    graph: AnyGraph | None
    factory: Callable[..., object] | None = None
    parameters: frozenset[str] = frozenset()

    def build(self, available: Mapping[str, object]) -> AnyGraph:
        """Raises ModuleRefused when the factory fails or returns something else."""
        if self.graph is not None:
            return self.graph
        assert self.factory is not None
        try:
            made = self.factory(**{name: available[name] for name in self.parameters})
        except Exception as error:
            raise ModuleRefused(f"The factory failed: {explain(error)}") from error
        return _checked(made)


def load_graph(path: str) -> GraphSource:
    """From `package.module:attribute`. Raises ModuleRefused."""
    name, _, attribute = path.partition(":")
    spec = find_module(name)
    origin = str(spec.origin)
    try:
        tree = ast.parse(Path(origin).read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise ModuleRefused(f"'{name}' can't be read: {explain(error)}") from error
    function = _defined(tree, name, attribute)
    module = _imported(name, origin)
    value = getattr(module, attribute, None)
    if function is None:
        return GraphSource(_checked(value))
    if not inspect.isfunction(value) or value.__module__ != name:
        raise ModuleRefused(f"'{attribute}' is not the function that '{name}' defines")
    return GraphSource(None, value, _parameters(value))


def _defined(tree: ast.Module, name: str, attribute: str) -> ast.FunctionDef | None:
    """The factory, or None for a graph. Raises ModuleRefused for anything else."""
    if not _uses_graphs(tree):
        raise ModuleRefused(f"'{name}' does not import langgraph")
    found = [node for node in tree.body if attribute in _names(node)]
    match found[-1:]:
        case [ast.FunctionDef() as function]:
            if not _returns_graph(function.returns):
                kinds = ", ".join(sorted(_GRAPH_TYPES))
                raise ModuleRefused(
                    f"The factory '{attribute}' must be annotated to return one of {kinds}"
                )
            return function
        case [ast.Assign(value=ast.Call()) | ast.AnnAssign(value=ast.Call())]:
            return None
        case [ast.Import() | ast.ImportFrom()]:
            raise ModuleRefused(f"'{name}' only imports '{attribute}'; name where it is defined")
        case []:
            raise ModuleRefused(f"'{name}' has no '{attribute}' at its top level")
    raise ModuleRefused(f"'{attribute}' is neither a graph nor a factory of one")


def _uses_graphs(tree: ast.Module) -> bool:
    modules = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else ()
        )
    ]
    return any(
        module == used or module.startswith(f"{used}.")
        for module in modules
        for used in _USES_GRAPHS
    )


def _names(node: ast.stmt) -> Sequence[str]:
    """What a statement at the top level binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [each.id for each in node.targets if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name for alias in node.names]
    return []


def _returns_graph(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _GRAPH_TYPES
        case ast.Subscript(value=value):
            return _returns_graph(value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _returns_graph(left) and _returns_graph(right)
        case ast.Constant(value=str() as text):
            try:
                return _returns_graph(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return False
    return False


def _imported(name: str, origin: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    # Whatever a module does when it is imported, even sys.exit(), is told to its author.
    except (Exception, SystemExit) as error:
        raise ModuleRefused(f"'{name}' can't be imported: {explain(error)}") from error
    if module.__spec__ is None or module.__spec__.origin != origin:
        raise ModuleRefused(f"'{name}' is loaded from another place; restart the runtime")
    return module


def _parameters(factory: Callable[..., object]) -> frozenset[str]:
    parameters = inspect.signature(factory).parameters.values()
    for each in parameters:
        by_name = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        if each.name not in PARAMETERS or not by_name:
            raise ModuleRefused(
                f"The factory takes '{each.name}'; it may take {', '.join(PARAMETERS)}, by name"
            )
    return frozenset(each.name for each in parameters)


def _checked(value: object) -> AnyGraph:
    if not isinstance(value, StateGraph | Pregel):
        raise ModuleRefused(f"A graph is needed, not {_article(type(value).__name__)}")
    if isinstance(value, Pregel) and value.checkpointer:
        raise ModuleRefused("Compile the graph without a checkpointer; the runtime keeps state")
    return value


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def explain(error: BaseException) -> str:
    """The cause, without where it lies on the disk."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    text = re.sub(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\":()]+)+[/\\]", "…/", str(error))
    return f"{type(error).__name__}: {text}"
