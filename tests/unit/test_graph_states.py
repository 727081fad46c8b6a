"""What graphs leave behind, as bytes: exact for the code, plain for people, and never code."""

import pickle
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import ormsgpack
import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel

from runtime.domain.errors import StateNotStorable, StateUnreadable
from runtime.infrastructure.frameworks.langgraph.states import shown
from runtime.templates.langgraph.state import StateCodec, plain

CALL = {"name": "pay", "args": {"amount": 5}, "id": "call_1", "type": "tool_call"}
MESSAGES = [
    HumanMessage([{"type": "text", "text": "Hi"}], id="1"),
    SystemMessage("Be brief.", name="boss"),
    AIMessage("", id="2", tool_calls=[CALL], response_metadata={"finish_reason": "stop"}),
    ToolMessage("paid", tool_call_id="call_1", status="error"),
    RemoveMessage(id="1"),
]


class Color(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Plan:
    goal: str
    made: datetime = field(default=datetime(2026, 1, 1, tzinfo=UTC), init=False)


class Report(BaseModel):
    plan: Plan
    color: Color
    points: list[Point] = []


OWN = (Color, Point, Plan, Report)


@pytest.mark.parametrize(
    "value",
    [
        MESSAGES,
        {"a": (1, 2), "b": {3}, "c": frozenset({4}), 5: deque([6]), "d": b"\x00", "e": None},
        [datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1), timedelta(1, 2, 3), UTC],
        [UUID(int=7), Decimal("1.10"), Path("/tmp/x"), 1.5, True, 2**63, "\U0001f600"],
        [Send("node", {"messages": MESSAGES}), Interrupt({"a": 1}, "id"), Overwrite([1])],
        Command(goto="node", update={"a": (1,)}),
    ],
)
def test_a_state_comes_back_as_it_was(value: Any) -> None:  # noqa: ANN401
    codec = StateCodec()

    assert codec.decode(codec.encode(value)) == value


def test_types_of_the_template_come_back_as_they_were() -> None:
    codec = StateCodec(OWN)
    value = [Report(plan=Plan("rest"), color=Color.RED, points=[Point(1, 2)])]

    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        ({"deep": [{"in": (Plan("x"),)}]}, "Plan"),
        ({"deep": Report(plan=Plan("x"), color=Color.RED)}, "Report"),
        (HumanMessage("Hi", additional_kwargs={"raw": Color.RED}), "Color"),
        (lambda: None, "function"),
        (open, "builtin_function_or_method"),
        (2**70, "64-bit"),
    ],
)
def test_what_can_not_be_kept_is_refused_by_name_when_it_is_written(
    value: object, named: str
) -> None:
    with pytest.raises(StateNotStorable, match=named):
        StateCodec().encode(value)


def test_a_list_with_itself_in_it_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(StateNotStorable):
        StateCodec().encode(endless)


def test_a_template_lists_types_of_which_it_is_known_what_they_are_made_of() -> None:
    with pytest.raises(ValueError, match=r"builtins:object is no pydantic model"):
        StateCodec([object])


class Bomb:
    def __reduce__(self) -> Any:  # noqa: ANN401 - as pickle has it
        return pytest.fail, ("it was made",)


def of_kind(name: str, parts: object) -> bytes:
    return b"\x01" + ormsgpack.packb(ormsgpack.Ext(1, ormsgpack.packb([name, parts])))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x01\xc1",
        pickle.dumps(Bomb()),
        JsonPlusSerializer().dumps_typed(Path("/"))[1],
        b"\x01" + JsonPlusSerializer().dumps_typed(Plan("x"))[1],
        of_kind("os:system", "true"),
        of_kind("tests.unit.test_graph_states:Plan", {"goal": "x"}),
        of_kind("set", [[1]]),
        of_kind("send", 5),
        b"\x01" + ormsgpack.packb(ormsgpack.Ext(1, b"\xc1")),
    ],
)
def test_what_was_written_otherwise_is_refused_when_it_is_read(data: bytes) -> None:
    with pytest.raises(StateUnreadable):
        StateCodec().decode(data)


def test_people_see_what_values_are_made_of() -> None:
    codec = StateCodec(OWN)
    report = Report(plan=Plan("rest"), color=Color.RED, points=[Point(1, 2)])

    seen = plain(codec.encode({"report": report, "said": MESSAGES[3:4]}))

    assert seen["report"]["color"] == "red"
    assert seen["report"]["points"] == [[1, 2]]
    assert seen["said"][0]["content"] == "paid"


def test_what_is_shown_is_json_of_a_bearable_length() -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    value = {"long": "x" * 5_000, "many": list(range(200)), "deep": deep, "raw": b"ab", 5: 1e999}

    seen = shown(value)

    assert len(seen["long"]) == 2_001
    assert seen["many"][:2] == ["…", 150]
    assert "…" in str(seen["deep"])
    assert (seen["raw"], seen["5"]) == ("2 bytes", "inf")
