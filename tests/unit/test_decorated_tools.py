"""Tools that are written as functions, and how they are found."""

import json
import threading
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from runtime.domain.services.tools import ToolOutcome, ToolTraits
from runtime.infrastructure.frameworks.discovery import TemplateFolder, register_built_in
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.tools import service
from runtime.infrastructure.tools.service import BuiltinTools, register_entry_points
from runtime.tools import DecoratedTool, ToolProblem, tool

SOURCE = """
from runtime.tools import tool


@tool(RULES)
def NAME(order: str) -> str:
    "ABOUT"
    return "REPLY " + order
"""


def source(name: str = "ship", reply: str = "shipped", rules: str = "", about: str = "") -> str:
    text = SOURCE.replace("NAME", name).replace("REPLY", reply)
    return text.replace("RULES", rules).replace("ABOUT", about)


class Line(BaseModel):
    article: str
    count: int = 1


@tool(read_only=True)
async def price(
    lines: list[Line],
    currency: Annotated[Literal["EUR", "USD"], Field(description="Of the answer.")] = "EUR",
    schema: str | None = None,
) -> dict[str, object]:
    """What an order costs.

    Taxes are in it.
    """
    return {"total": sum(line.count for line in lines), "currency": currency, "schema": schema}


async def test_the_schema_is_made_of_hints_defaults_and_docstring() -> None:
    spec = price.spec

    assert (spec.name, spec.description) == ("price", "What an order costs.\n\nTaxes are in it.")
    assert spec.parameters["required"] == ["lines"]
    properties = json.loads(json.dumps(spec.parameters))["properties"]
    assert set(properties) == {"lines", "currency", "schema"}
    assert properties["currency"]["description"] == "Of the answer."
    assert price.traits == ToolTraits(read_only=True)


async def test_arguments_come_as_their_types_and_results_leave_as_json() -> None:
    outcome = await price('{"lines": [{"article": "pen", "count": 3}], "schema": "x"}')

    assert outcome == ToolOutcome("success", '{"total":3,"currency":"EUR","schema":"x"}')


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("{}", "lines: Field required"),
        ('{"lines": [{}]}', "lines.0.article"),
        ('{"lines": [], "currency": "DM"}', "currency"),
        ('{"lines": [], "rush": true}', "rush"),
        ("[]", "JSON object with: lines, currency, schema"),
    ],
)
async def test_wrong_arguments_are_an_outcome_and_a_problem(arguments: str, why: str) -> None:
    outcome = await price(arguments)

    assert (outcome.status, why in outcome.output) == ("error", True)
    assert price.problem(arguments) == outcome.output
    assert price.problem('{"lines": []}') is None


async def test_a_plain_function_runs_beside_the_loop() -> None:
    @tool
    def where() -> str:
        return threading.current_thread().name

    assert (await where("")).output != threading.main_thread().name
    assert where.function() == threading.main_thread().name


async def test_a_problem_reaches_the_model_and_an_error_does_not() -> None:
    @tool
    async def find(id: int) -> None:
        if id > 9:
            raise ToolProblem("Ids have one digit.")
        if id:
            raise RuntimeError("password=secret")

    tools = BuiltinTools([find])
    assert await tools.call("find", '{"id": 10}') == ToolOutcome("error", "Ids have one digit.")
    assert await tools.call("find", '{"id": 1}') == ToolOutcome("error", "The tool 'find' failed.")
    assert await tools.call("find", '{"id": 0}') == ToolOutcome("success", "")


def test_what_a_tool_says_of_itself_is_known_by_its_name() -> None:
    @tool(name="pay-out", description="Pays.", idempotent=True, needs_approval=True, timeout_s=5)
    def pay(amount: int) -> None: ...

    @tool(needs_approval="reviewer")
    def erase() -> None: ...

    tools = BuiltinTools([pay, erase])
    assert tools.traits("pay-out") == ToolTraits(idempotent=True, approval="owner", timeout_s=5)
    assert tools.traits("erase").approval == "reviewer"
    assert tools.traits("calculator").read_only
    assert tools.traits("nothing") == ToolTraits()
    assert (tools.problem("pay-out", "{}") or "").startswith("Wrong arguments: amount")
    assert tools.problem("nothing", "{}") is None


def test_a_function_that_can_not_be_a_tool_is_refused() -> None:
    def bare(x) -> None: ...  # type: ignore[no-untyped-def]

    def many(*words: str) -> None: ...

    with pytest.raises(TypeError, match="'x' has no type hint"):
        tool(bare)
    with pytest.raises(TypeError, match="'words' can't be given by name"):
        tool(many)
    with pytest.raises(ValueError, match="letters, digits"):
        tool(name="to ship")(lambda: "")
    with pytest.raises(ValueError, match="more than 0"):
        tool(timeout_s=0)


@pytest.fixture
def tools() -> BuiltinTools:
    return BuiltinTools()


@pytest.fixture
def registry(tools: BuiltinTools) -> TemplateRegistry:
    registry = TemplateRegistry(tools)
    register_built_in(registry)
    return registry


@pytest.fixture
def folder(tmp_path: Path, registry: TemplateRegistry, tools: BuiltinTools) -> TemplateFolder:
    return TemplateFolder(tmp_path, registry, [tools])


async def test_a_file_s_tools_are_found_replaced_and_dropped(
    folder: TemplateFolder, tools: BuiltinTools
) -> None:
    file = folder.path / "shop.py"
    file.write_text(source())
    folder.sync()
    assert (await tools.call("ship", '{"order": "A"}')).output == "shipped A"
    before = tools.generation

    file.write_text(source(reply="sent", rules="needs_approval=True"))
    folder.sync()
    assert (await tools.call("ship", '{"order": "A"}')).output == "sent A"
    assert tools.traits("ship").approval == "owner"
    assert tools.generation > before

    file.unlink()
    folder.sync()
    assert tools.names() == ["calculator", "current_time"]


async def test_a_broken_file_keeps_the_last_good_tool(
    folder: TemplateFolder, tools: BuiltinTools, registry: TemplateRegistry
) -> None:
    file = folder.path / "shop.py"
    file.write_text(source())
    folder.sync()
    file.write_text(source(reply="sent") + "raise ImportError('no shop')")
    folder.sync()

    assert (await tools.call("ship", '{"order": "A"}')).output == "shipped A"
    assert "no shop" in registry.problems()[0].error


@pytest.mark.parametrize("name", ["calculator", "ship"])
async def test_a_name_that_is_taken_is_reported_and_changes_nothing(
    folder: TemplateFolder, tools: BuiltinTools, registry: TemplateRegistry, name: str
) -> None:
    (folder.path / "a_shop.py").write_text(source())
    (folder.path / "b_shop.py").write_text(source(name, reply="stolen"))
    folder.sync()

    assert f"a tool named {name} is there already" in registry.problems()[0].error
    assert (await tools.call("ship", '{"order": "A"}')).output == "shipped A"
    assert (await tools.call("calculator", '{"expression": "1+1"}')).output == "2"


def test_a_package_may_keep_its_tools_in_modules_and_share_none_it_imports(
    folder: TemplateFolder, tools: BuiltinTools
) -> None:
    (folder.path / "_shared.py").write_text(source("helper"))
    (folder.path / "shop").mkdir()
    (folder.path / "shop" / "__init__.py").write_text(
        "from _shared import helper\nfrom .inner import ship\n"
    )
    (folder.path / "shop" / "inner.py").write_text(source())
    folder.sync()

    assert tools.names() == ["calculator", "current_time", "ship"]


def test_the_form_of_a_template_offers_a_tool_that_came_later(
    folder: TemplateFolder, registry: TemplateRegistry
) -> None:
    (folder.path / "shop.py").write_text(source())
    folder.sync()

    fields = [field for section in registry.get("react-agent").sections for field in section.fields]
    offered = next(field for field in fields if field.id == "tools").options
    assert offered == ["calculator", "current_time", "ship"]


def test_installed_tools_are_found_by_their_entry_points(
    tools: BuiltinTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = EntryPoints(
        EntryPoint(name, value, "agent_runtime.tools")
        for name, value in {
            "price": f"{__name__}:price",
            "gone": "no_such_module:tool",
            "wrong": f"{__name__}:Line",
        }.items()
    )
    monkeypatch.setattr(service, "entry_points", lambda group: points.select(group=group))
    reported: dict[str, str] = {}

    register_entry_points(tools, reported.__setitem__)
    assert tools.names() == ["calculator", "current_time", "price"]
    assert sorted(reported) == ["entry point:gone", "entry point:wrong"]
    assert "is no tool" in reported["entry point:wrong"]
    assert isinstance(price, DecoratedTool)
