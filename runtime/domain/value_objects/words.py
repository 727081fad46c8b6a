"""What a text is found by: the same words at writing and at asking, whatever the database."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

MAX_WORD = 64
"""Characters; longer ones are cut."""
MOST_WORDS = 2_000
"""Different ones that a text is found by."""
MOST_ASKED = 32
MOST_LOOKED_AT = 2_000
"""Places of words that a search goes through; more only for a question of one common word."""

_RUN = re.compile(r"\w+")
# Scripts written without spaces: Kana, Han with its extensions, Hangul.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# Okapi BM25, with a fixed length in place of the average: a row's weight stays as it was written.
_SATURATION = 1.2
_LENGTH_PART = 0.75
_USUAL_LENGTH = 40
_USUAL_NUMBER = 10_000


def weights_of(text: str) -> Mapping[str, float]:
    """The words of a text that is stored, with how much each one says of it."""
    counts = Counter(_words(text, stored=True))
    length = counts.total() / _USUAL_LENGTH
    damping = _SATURATION * (1 - _LENGTH_PART + _LENGTH_PART * length)
    return {
        word: count * (_SATURATION + 1) / (count + damping)
        for word, count in counts.most_common(MOST_WORDS)
    }


def asked_words(query: str) -> list[str]:
    """The words of a question, each once."""
    return list(dict.fromkeys(_words(query, stored=False)))[:MOST_ASKED]


def worth_of(numbers: Mapping[str, int]) -> Mapping[str, float]:
    """How much each word of a question counts that is found in so many texts: the rarer the more.
    The commonest, which tell little, are left out where the others lead to enough texts."""
    worth: dict[str, float] = {}
    looked_at = 0
    for word, number in sorted(numbers.items(), key=lambda each: (each[1], each[0])):
        looked_at += number
        if worth and looked_at > MOST_LOOKED_AT:
            break
        worth[word] = math.log1p(_USUAL_NUMBER / number)
    return worth


def _words(text: str, *, stored: bool) -> Iterator[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    for run in _RUN.finditer(folded):
        rest = 0
        for unspaced in _UNSPACED.finditer(run[0]):
            yield from _spaced(run[0][rest : unspaced.start()])
            yield from _unspaced(unspaced[0], stored=stored)
            rest = unspaced.end()
        yield from _spaced(run[0][rest:])


def _spaced(word: str) -> Iterator[str]:
    if word:
        yield word[:MAX_WORD]


def _unspaced(text: str, *, stored: bool) -> Iterator[str]:
    """Pairs of neighbours; single characters too where a question may be one of them."""
    if stored or len(text) == 1:
        yield from text
    for start in range(len(text) - 1):
        yield text[start : start + 2]
