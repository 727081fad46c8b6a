"""Vectors from hashed words and pieces of words: texts that share many are near one another."""

import re
from array import array
from collections.abc import Iterator
from math import sqrt
from zlib import crc32

from runtime.domain.value_objects.embeddings import EmbeddingInput, Vector

DIMENSIONS = 256
MAX_DIMENSIONS = 4_096
_WORD = re.compile(r"\w+")
_PIECE = 3
_MIX = 0x9E3779B1


def vector(input: EmbeddingInput, dimensions: int) -> Vector:
    """Of length 1, the same for the same input everywhere."""
    sums = [0.0] * dimensions
    for feature, weight in _features(input):
        mixed = crc32(feature.encode(errors="replace")) * _MIX & 0xFFFFFFFF
        sums[(mixed >> 1) % dimensions] += weight if mixed & 1 else -weight
    length = sqrt(sum(each * each for each in sums))
    if not length:
        return array("f", [1.0] + [0.0] * (dimensions - 1))
    return array("f", (each / length for each in sums))


def _features(input: EmbeddingInput) -> Iterator[tuple[str, float]]:
    if not isinstance(input, str):
        yield from ((f"token {token}", 1.0) for token in input)
        return
    for word in _WORD.findall(input.lower()):
        yield word, 1.0
        framed = f"<{word}>"
        for at in range(len(framed) - _PIECE + 1):
            yield framed[at : at + _PIECE], 0.4
