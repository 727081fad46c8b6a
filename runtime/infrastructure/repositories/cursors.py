"""Positions in lists that are newest first, as opaque text."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from runtime.domain.errors import InvalidValue
from runtime.domain.value_objects.pages import Page

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(r"(?P<list>[^ ]+) (?P<at>-?[0-9]{1,18}) (?P<id>[\x21-\x7e]{1,256})")


class Position(NamedTuple):
    """Of the last item seen. The time comes first: ids chosen by callers are not in its order."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Cursors:
    """The cursors of one list; those of other lists are refused."""

    list: str

    def read(self, cursor: str) -> Position:
        """Raises InvalidValue."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
            match = _TEXT.fullmatch(text.decode())
            if match and match["list"] == self.list:
                return Position(_EPOCH + int(match["at"]) * _MICROSECOND, match["id"])
        except (ValueError, OverflowError):
            pass
        raise InvalidValue("This cursor is none of this list's; start without one.", param="after")

    def page(self, found: Sequence[T], limit: int, position: Callable[[T], Position]) -> Page[T]:
        """Of `found`, one item longer than `limit` where there are more."""
        items = found[:limit]
        if len(found) <= limit or not items:
            return Page(items, None)
        return Page(items, self._write(position(items[-1])))

    def _write(self, position: Position) -> str:
        micros = (position.at - _EPOCH) // _MICROSECOND
        text = f"{self.list} {micros} {position.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
