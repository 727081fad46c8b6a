"""What nobody may read in a log, a trace or an error: known secrets, and what looks like one."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Any
from urllib.parse import quote

MASK = "***"
_SHORTEST = 8
"""Anything shorter would blot out ordinary words."""
_SHAPES = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)(?=[^\s\"']*\d)[A-Za-z0-9._~+/=-]{16,}"
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}"
    r"|\bar_[A-Za-z0-9_-]{16,}"
    r"|\bwhsec_[A-Za-z0-9+/=]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,256}:)[^\s/@\"'<>]{1,256}(?=@)"
    r"|(?P<name>\bpassword=|\bx-runtime-token\"?\s?[=:]\s?\"?)[^\s&,;\"'\\]{6,}",
    re.IGNORECASE | re.ASCII,
)

# Every shape has one of these in it; looking for them costs a tenth of looking for the shapes.
_HINTS = ("://", "k-", "ar_", "whsec_", "eyj", "bearer", "basic", "password=", "x-runtime-token")


class Redactor:
    """One alternation of all known values, made anew only after they have changed."""

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()
        self._pattern: re.Pattern[str] | None = None
        self._stale = False
        self._lock = Lock()

    def know(self, values: Iterable[str]) -> Callable[[], None]:
        """Hide `values`, however they are quoted, until what is returned is called."""
        spelt = {each for value in values if len(value) >= _SHORTEST for each in _spellings(value)}
        if not spelt:
            return spelt.clear
        with self._lock:
            self._known.update(spelt)
            self._stale = True

        def forget() -> None:
            with self._lock:
                self._known.subtract(spelt)
                self._known += Counter()
                self._stale = True
                spelt.clear()

        return forget

    def __call__(self, text: str) -> str:
        if self._stale:
            self._compile()
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        lowered = text.lower()
        if any(hint in lowered for hint in _HINTS):
            return _SHAPES.sub(_masked, text)
        return text

    def _compile(self) -> None:
        with self._lock:
            longest_first = sorted(self._known, key=len, reverse=True)
            pattern = "|".join(map(re.escape, longest_first))
            self._pattern = re.compile(pattern) if pattern else None
            self._stale = False


redacted = Redactor()
"""The process's own: its log is one, whatever runs in it."""


def redacted_json(value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """The texts in `value`, at any depth."""
    match value:
        case str():
            return redacted(value)
        case Mapping():
            return {name: redacted_json(each) for name, each in value.items()}
        case list() | tuple():
            return [redacted_json(each) for each in value]
    return value


def hide(_: object, __: str, line: Any) -> str:  # noqa: ANN401 - as structlog has it
    """A structlog processor, after the one that renders the line."""
    return redacted(str(line))


def _masked(match: re.Match[str]) -> str:
    kept = match["scheme"] or match["url"] or match["name"] or ""
    return kept + MASK


def _spellings(value: str) -> Iterator[str]:
    """As it is, within JSON, `repr` and URLs."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield quote(value, safe="")
    yield quote(value)
