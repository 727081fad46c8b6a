"""`POST /embeddings`: asked for as base64, which is a third of the numbers as text."""

import math
import sys
from array import array
from base64 import b64decode
from typing import Any

import orjson

from runtime.domain.errors import InvalidValue, UpstreamRefused
from runtime.domain.services.models import EmbeddingCall
from runtime.domain.value_objects.chat import Usage
from runtime.domain.value_objects.embeddings import Embeddings, Vector, tokens_of
from runtime.infrastructure.providers.faults import Faults

LARGEST_BODY = 128 * 1024 * 1024
"""Bytes: room for 2,048 vectors of 4,096 numbers, even as text."""
_CHARACTERS_PER_TOKEN = 4


def embedding_request(call: EmbeddingCall, model: str) -> bytes:
    """Raises InvalidValue for what JSON can't say, such as half a surrogate pair."""
    body: dict[str, Any] = {"model": model, "input": call.inputs, "encoding_format": "base64"}
    if call.dimensions is not None:
        body["dimensions"] = call.dimensions
    if call.user is not None:
        body["user"] = call.user
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise InvalidValue("An input holds text that JSON can't carry.", param="input") from None


def embeddings_of(body: bytes, call: EmbeddingCall, model: str, faults: Faults) -> Embeddings:
    """Raises UpstreamFailed for anything but one vector for each input, and UpstreamRefused where
    the model does not know `dimensions`."""
    try:
        answer = orjson.loads(body)
        vectors = _ordered(answer["data"], len(call.inputs))
        name = answer.get("model") or model
        usage = _usage(answer.get("usage") or {}, call)
    except (AttributeError, KeyError, LookupError, OverflowError, TypeError, ValueError):
        raise faults.failed("sent something that is not a list of embeddings") from None
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or 0 in lengths:
        raise faults.failed("sent embeddings of different lengths")
    if call.dimensions is not None and lengths != {call.dimensions}:
        raise UpstreamRefused(
            f"The model has vectors of {lengths.pop()} numbers and no other length.",
            param="dimensions",
        )
    return Embeddings(vectors, str(name), usage)


def _ordered(data: list[dict[str, Any]], count: int) -> list[Vector]:
    """By their index; some servers send none, and keep the order."""
    by_index = {each.get("index", at): each for at, each in enumerate(data)}
    if len(data) != count:
        raise ValueError
    return [_vector(by_index[index]["embedding"]) for index in range(count)]


def _vector(sent: object) -> Vector:
    vector: Vector = array("f")
    if isinstance(sent, str):
        vector.frombytes(b64decode(sent, validate=True))
        if sys.byteorder == "big":
            vector.byteswap()
    elif isinstance(sent, list):
        vector.extend(sent)
    else:
        raise TypeError
    if not math.isfinite(sum(vector)):
        raise ValueError
    return vector


def _usage(sent: dict[str, Any], call: EmbeddingCall) -> Usage:
    counted = sent.get("prompt_tokens") or sent.get("total_tokens")
    if counted is None:
        counted = sum(tokens_of(each, _CHARACTERS_PER_TOKEN) for each in call.inputs)
    return Usage(input_tokens=int(counted))
