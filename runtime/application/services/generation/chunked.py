"""`chunked`: text in whole words, sentences, or so many characters at a time."""

import re
from contextlib import aclosing

from runtime.application.services.generation.config import ModeConfig
from runtime.application.services.generation.modes import Single
from runtime.application.services.generation.sources import Sourced, Stream
from runtime.domain.events.runs import TextDelta

LONGEST = 2_000
"""Characters that are held for a word or a sentence that has no end."""

_UNSPACED = "\u3001-\u303f\u3040-\u30ff\u3400-\u9fff\uff00-\uffef\U00020000-\U0003ffff"
"""Characters of writing without blanks between words: each is one."""
_WORD = re.compile(rf"\s*+(?:[{_UNSPACED}]|[^\s{_UNSPACED}]++(?=[\s{_UNSPACED}]))")
_CLOSING = r"\"'\u201d\u2019\u00bb)\]\u300d\u300f\uff09\u3011\u300b"
_ENDS, _FULL_ENDS = r"[.!?\u2026]", r"[\u3002\uff01\uff1f]"
_SENTENCE = re.compile(
    rf"\s*+\S.*?(?:(?<!{_ENDS}){_ENDS}++[{_CLOSING}]*+(?=\s)"
    rf"|(?<!{_FULL_ENDS}){_FULL_ENDS}++[{_CLOSING}]*+(?=[\s\S])|(?=\n))"
)
"""What ends one is told by the character behind it, which has to be there."""
_MARK = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\n]")
_MARKED = re.compile(rf"[.!?\u2026\u3002\uff01\uff1f{_CLOSING}]\Z")


class Chunked(Single):
    """How the text was cut before makes no difference, but for words longer than any."""

    def __init__(self, config: ModeConfig) -> None:
        unit = config.choice("unit", ("word", "sentence", "characters"))
        size = config.integer("size", 20, least=1, most=10_000)
        characters = re.compile(f".{{{size}}}", re.DOTALL)
        self._pattern = {"word": _WORD, "sentence": _SENTENCE}.get(unit, characters)
        self._most = LONGEST if unit != "characters" else size

    async def stream(self, events: Stream) -> Stream:
        rest, source = "", 0
        async with aclosing(events):
            async for batch in events:
                out: list[Sourced] = []
                for each in batch:
                    source = each.source
                    if type(each.event) is TextDelta:
                        pieces, rest = self._cut(rest, each.event.text)
                        out += [Sourced(source, TextDelta(piece)) for piece in pieces]
                        continue
                    if rest:
                        out.append(Sourced(source, TextDelta(rest)))
                        rest = ""
                    out.append(each)
                if out:
                    yield out
        if rest:
            yield [Sourced(source, TextDelta(rest))]

    def _cut(self, rest: str, more: str) -> tuple[list[str], str]:
        """The whole ones, and what is left."""
        text = rest + more
        pieces = []
        end = 0
        if self._pattern is not _SENTENCE or _MARK.search(more) or _MARKED.search(rest):
            while found := self._pattern.match(text, end):
                pieces.append(found.group())
                end = found.end()
        left = text[end:]
        if len(left) > self._most:
            return [*pieces, left], ""
        return pieces, left
