"""docs/compatibility.md: which feature works from which client, the same text every time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.suite import Outcome, Outcomes

INTRODUCTION = Path(__file__).with_name("introduction.md")
SIGNS = {"ok": "✓", "failed": "✗", "absent": "\N{EN DASH}"}
NOT_TOLD = Outcome("failed", "the script told no outcome")


@dataclass(frozen=True)
class Column:
    title: str
    versions: str
    outcomes: Outcomes

    def failures(self) -> dict[str, str]:
        """Reasons by feature."""
        return {name: each.note for name, each in self.outcomes.items() if each.kind == "failed"}


@dataclass
class Notes:
    """Reasons, each once, numbered in the order they are met."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f" <sup>{self.texts.index(text) + 1}</sup>"

    def lines(self) -> list[str]:
        return [f"{number}. {text}" for number, text in enumerate(self.texts, 1)]


def page(
    groups: Mapping[str, Mapping[str, str]], clients: Sequence[Column], standard: Sequence[Column]
) -> str:
    notes = Notes()
    parts = [INTRODUCTION.read_text()]
    for title, rows in groups.items():
        parts += [f"## {title}\n", table(rows, clients, notes)]
    parts += ["## Why not\n", "\n".join(notes.lines()) + "\n"]
    parts += ["## Versions\n", versions(clients)]
    reasons = Notes()
    tests = {name: f"`{name}`" for column in standard for name in column.outcomes}
    parts += [
        "## LangChain's own standard tests\n",
        f"`ChatModelIntegrationTests` of {standard[0].versions}, run on `ChatOpenAI`.\n",
        table(tests, standard, reasons),
        "\n".join(reasons.lines()) + "\n",
    ]
    return "\n".join(parts)


def table(rows: Mapping[str, str], columns: Sequence[Column], notes: Notes) -> str:
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + ":-:|" * len(columns),
    ]
    for name, title in rows.items():
        cells = (cell(column.outcomes.get(name, NOT_TOLD), notes) for column in columns)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(outcome: Outcome, notes: Notes) -> str:
    mark = notes.mark(outcome.note) if outcome.kind == "absent" else ""
    return SIGNS[outcome.kind] + mark


def versions(columns: Sequence[Column]) -> str:
    return "\n".join(f"- {column.title}: {column.versions}" for column in columns) + "\n"


def checked(rows: Iterable[str], outcomes: Outcomes) -> Outcomes:
    """With a failure for each row that is missing, and for each outcome that has no row."""
    known = {name: outcomes.get(name, NOT_TOLD) for name in rows}
    strange = {
        name: Outcome("failed", f"there is no such row. {outcome.note}")
        for name, outcome in outcomes.items()
        if name not in known
    }
    return known | strange
