import json
from datetime import UTC, datetime

import pytest

from runtime.domain.errors import InvalidValue
from runtime.domain.services.tools import ToolOutcome, ToolTraits
from runtime.domain.value_objects.chat import ToolSpec
from runtime.infrastructure.tools.calculator import evaluate, written
from runtime.infrastructure.tools.function import ToolProblem
from runtime.infrastructure.tools.service import BuiltinTools

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def tools() -> BuiltinTools:
    return BuiltinTools(now=lambda: NOON)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", "7"),
        ("(12.5 * 3 + sqrt(16)) / 2", "20.75"),
        ("6 / 3", "2"),
        ("7 // 2 + 7 % 2", "4"),
        ("-2 ** 2", "-4"),
        ("0.1 + 0.2", "0.3"),
        ("2 ** 200", str(2**200)),
        ("2 ** -1", "0.5"),
        ("(-1) ** (10 ** 12 + 1)", "-1"),
        ("1 ** (10 ** 300)", "1"),
        ("0 ** 0", "1"),
        ("round(2.567, 2)", "2.57"),
        ("round(2.5)", "2"),
        ("min(3, 1, 2) + max(1, 2) + abs(-4)", "7"),
        ("floor(2.7) + ceil(2.1)", "5"),
        ("log(e) + log10(1000) + log(8, 2)", "7"),
        ("cos(0) + sin(0) + tan(0) + exp(0)", "2"),
        ("tau / pi", "2"),
        ("1e300 * 10", "1e+301"),
        ("  +3 ", "3"),
    ],
)
def test_arithmetic_is_evaluated(expression: str, result: str) -> None:
    assert written(evaluate(expression)) == result


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("1 / 0", "Division by zero"),
        ("5 % 0", "Division by zero"),
        ("0 ** -1", "Division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("10 ** 300 * 10 ** 300 * 10 ** 300", "too large"),
        ("1e308 * 10", "too large"),
        ("exp(10000)", "too large"),
        ("10 ** -(10 ** 400)", "too large"),
        ("sqrt(-1)", "not a real number"),
        ("(-8) ** 0.5", "not a real number"),
        ("1e999 - 1e999", "too large"),
        ("round(5, -(10 ** 9))", "not a real number"),
        ("sqrt(1, 2)", "number or kind of arguments"),
        ("round(1.5, 0.5)", "number or kind of arguments"),
        ("x + 1", "Unknown name 'x'"),
        ("open(1)", "Unknown function 'open'"),
        ("__import__('os')", "Unknown function '__import__'"),
        ("(1).__class__", "Only numbers"),
        ("1 << 99999999", "Only numbers"),
        ("2 ^ 10", "Only numbers"),
        ("1 < 2", "Only numbers"),
        ("'a' * 1000", "Only numbers"),
        ("True + 1", "Only numbers"),
        ("2j", "Only numbers"),
        ("[1 for _ in (1, 2)]", "Only numbers"),
        ("max(*(1, 2))", "Only numbers"),
        ("round(1.5, ndigits=1)", "Only numbers"),
        ("1 +", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("1\x00", "no arithmetic expression"),
        ("(" * 240 + "1" + ")" * 240, "no arithmetic expression"),
        ("-" * 100 + "1", "nested more than"),
    ],
)
def test_anything_else_is_refused_with_a_reason(expression: str, why: str) -> None:
    with pytest.raises(ToolProblem, match=why):
        evaluate(expression)


async def test_a_tool_is_called_with_json_arguments(tools: BuiltinTools) -> None:
    outcome = await tools.call("calculator", '{"expression": "6 * 7"}')

    assert outcome == ToolOutcome("success", "42")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("{}", "expression: Field required"),
        ('{"expression": 5}', "expression"),
        ('{"expression": "1", "verbose": true}', "verbose"),
        ('{"expression": "1', "Invalid JSON"),
        ("[]", "JSON object with: expression"),
        (json.dumps({"expression": "1+" * 300 + "1"}), "at most 500"),
        ('{"expression": "1/0"}', "Division by zero"),
    ],
)
async def test_wrong_arguments_are_an_outcome_that_says_how_to_do_better(
    tools: BuiltinTools, arguments: str, why: str
) -> None:
    outcome = await tools.call("calculator", arguments)

    assert outcome.status == "error"
    assert why in outcome.output


async def test_the_time_is_told_with_zone_and_weekday(tools: BuiltinTools) -> None:
    utc = await tools.call("current_time", "")
    shanghai = await tools.call("current_time", '{"timezone": "Asia/Shanghai"}')

    assert utc.output == "2026-11-21T12:00:00+00:00 (Saturday)"
    assert shanghai.output == "2026-11-21T20:00:00+08:00 (Saturday)"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "Europe", "/etc", "a\0b"])
async def test_an_unknown_zone_is_answered_with_a_valid_example(
    tools: BuiltinTools, zone: str
) -> None:
    outcome = await tools.call("current_time", json.dumps({"timezone": zone}))

    assert outcome.status == "error"
    assert "Europe/Berlin" in outcome.output


async def test_an_unknown_tool_is_an_outcome_that_names_those_there_are(
    tools: BuiltinTools,
) -> None:
    outcome = await tools.call("launch", "{}")

    assert outcome.status == "error"
    assert "calculator, current_time" in outcome.output


def test_specs_come_in_the_order_asked_for_with_a_schema(tools: BuiltinTools) -> None:
    clock, calculator = tools.specs(["current_time", "calculator"])

    assert (clock.name, calculator.name) == ("current_time", "calculator")
    assert calculator.parameters["required"] == ["expression"]
    assert "sqrt" in calculator.description


def test_a_spec_of_an_unknown_tool_is_refused(tools: BuiltinTools) -> None:
    with pytest.raises(InvalidValue, match="no tool 'launch'"):
        tools.specs(["calculator", "launch"])


class Broken:
    spec = ToolSpec("broken")
    traits = ToolTraits()

    def problem(self, arguments: str) -> str | None:
        return None

    async def __call__(self, arguments: str) -> ToolOutcome:
        raise RuntimeError("secret detail")


async def test_a_plugin_that_breaks_is_an_outcome_without_its_details() -> None:
    tools = BuiltinTools([Broken()])

    outcome = await tools.call("broken", "{}")

    assert outcome == ToolOutcome("error", "The tool 'broken' failed.")
    assert tools.names() == ["broken", "calculator", "current_time"]


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools named broken"):
        BuiltinTools([Broken(), Broken()])
