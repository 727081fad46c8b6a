"""The marked blocks of the pages under docs/, and how what they print is compared."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDRESS = "http://127.0.0.1:8000"
"""Where the pages say the runtime is."""
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    words: tuple[str, ...]
    text: str

    def option(self, name: str) -> str | None:
        found = (
            word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")
        )
        return next(found, None)

    def compare(self, printed: str) -> None:
        """Raises AssertionError where `printed` is not what this block of output shows."""
        if self.language == "json":
            check_part(json.loads(self.text), json.loads(printed))
        else:
            assert fits(self.text, printed), f"{self.text}\nis not\n{printed}"


def blocks(page: Path, *, client: str | None = None) -> Iterator[Block]:
    """Those without `with=CLIENT`, or those of one client."""
    for language, words, text in FENCE.findall(page.read_text()):
        block = Block(language, tuple(words.split()), text)
        if block.words and block.option("with") == client:
            yield block


def fits(shown: str, found: str) -> bool:
    pattern = ".*".join(map(re.escape, " ".join(shown.split()).split("…")))
    return re.fullmatch(pattern, " ".join(found.split())) is not None


def check_part(shown: object, found: object) -> None:
    match shown, found:
        case dict(), dict():
            assert shown.keys() <= found.keys()
            for name, value in shown.items():
                check_part(value, found[name])
        case list(), list():
            assert len(shown) == len(found)
            for one, other in zip(shown, found, strict=True):
                check_part(one, other)
        case str(), str():
            assert fits(shown, found), f"{shown} is not {found}"
        case _:
            assert shown == found
