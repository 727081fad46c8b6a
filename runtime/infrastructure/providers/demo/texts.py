"""What can be found in a text without understanding it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST_LOOKED_AT = 2_000
"""Characters; what a user writes after that decides nothing. The patterns take quadratic time."""

_CJK = "\u3000-\u30ff\u3400-\u9fff\uff00-\uffef"
_WORD = re.compile(rf"[{_CJK}]\s*|[^\s{_CJK}]+\s*|\s+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_ARITHMETIC = re.compile(r"[-(\d.][-+*/%^()\d.\s\xd7\xf7]*[\d)]")
_OPERATION = re.compile(r"[\d)]\s*[-+*/%^\xd7\xf7]+\s*\(*\s*-?[\d.]")
_SIGNS = {0xD7: "*", 0xF7: "/", ord("^"): "**"}
_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)|“([^”]+)”|「([^」]+)」|`([^`]+)`")
_LIST_OF_QUOTED = r"(?:[\"'`]\w+[\"'`](?:\s*,\s*|\s+)(?:and\s+)?)+"
_KEYS = re.compile(rf"({_LIST_OF_QUOTED})(?:as\s+)?(?:keys?|fields?|properties)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<![.!?:\n])(?<!^)\s([A-Z][\w'-]*(?:\s[A-Z][\w'-]*)*)")
_FIRST_PERSON = ("I", "I'm", "I'd", "I'll", "I've")


def words(text: str) -> list[str]:
    """The tokens of the demo model: words with the blanks behind them, Chinese by character."""
    return _WORD.findall(text)


def count_words(text: str) -> int:
    return len(text.split()) if text.isascii() else sum(1 for _ in _WORD.finditer(text))


def expression(text: str) -> str | None:
    """The first arithmetic expression, in the signs a programming language takes."""
    for found in _ARITHMETIC.findall(_DATE.sub(" ", text)):
        if _OPERATION.search(found):
            return _balanced(found).translate(_SIGNS)
    return None


def json_object(text: str) -> dict[str, object] | None:
    decoder = json.JSONDecoder()
    for opening in [at for at, sign in enumerate(text) if sign == "{"][:20]:
        try:
            found, _ = decoder.raw_decode(text, opening)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def named_keys(text: str) -> list[str]:
    """Of a JSON object that is asked for: *with 'name' and 'age' keys*."""
    found = _KEYS.search(text[:LONGEST_LOOKED_AT])
    return re.findall(r"\w+(?=[\"'`])", found.group(1)) if found else []


@dataclass(slots=True)
class Hints:
    """What a text offers to fill a JSON Schema with; numbers are handed out in their order."""

    text: str
    said: str
    """`text` to begin with; where that is replaced, still what the user said."""
    expression: str | None = None
    subject: str | None = None
    """The first thing in quotation marks, else the first name."""
    numbers: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> "Hints":
        text = text[:LONGEST_LOOKED_AT]
        numbers = [float(found) for found in _NUMBER.findall(text)]
        return cls(text.strip(), text, expression(text), _subject(text), numbers)

    def number(self) -> float | None:
        """The next one; the last one stays."""
        if len(self.numbers) > 1:
            return self.numbers.pop(0)
        return self.numbers[0] if self.numbers else None


def holds_words(text: str, wanted: Sequence[str]) -> bool:
    lowered = text.lower()
    return bool(wanted) and all(
        re.search(rf"\b{re.escape(word.lower())}\b", lowered) for word in wanted
    )


def _subject(text: str) -> str | None:
    quoted = _QUOTED.search(text)
    if quoted:
        return next(group for group in quoted.groups() if group)
    names = (name for name in _NAME.findall(text) if name not in _FIRST_PERSON)
    return next(names, None)


def _balanced(found: str) -> str:
    """Without the brackets that belong to the sentence around it."""
    found = found.strip()
    while found.count("(") > found.count(")") and found.startswith("("):
        found = found[1:].strip()
    while found.count(")") > found.count("(") and found.endswith(")"):
        found = found[:-1].strip()
    return found
