"""What a call is, and what its answer is read as."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from runtime.client.decoding import NewDecoder

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    body: Json
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    method: Literal["GET", "POST", "DELETE"]
    path: str
    parse: Callable[[Answered], T]
    body: Json | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    also: tuple[int, ...] = ()
    """Statuses that are an answer too, not a refusal."""


@dataclass(frozen=True, slots=True)
class StreamCall:
    path: str
    body: Json | None
    decoder: NewDecoder
    method: Literal["GET", "POST"] = "POST"
    query: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list; `next_cursor` as `after` asks for the one that follows."""

    items: Sequence[Json]
    has_more: bool = False
    next_cursor: str | None = None

    def __iter__(self) -> Iterator[Json]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer in one piece."""

    text: str
    tool_calls: Sequence[Json]
    """Calls that the caller is to make, in OpenAI's shape."""
    finish_reason: str
    usage: Mapping[str, Any]
    conversation_id: str | None
    """Of the session that it is a turn of."""
    raw: Json = field(repr=False)


def whole(answer: Answered) -> Json:
    return answer.body


def envelope(answer: Answered) -> Json:
    """Raises KeyError for what is none."""
    answer.body["success"], answer.body["data"]
    return answer.body


def data(answer: Answered) -> Json:
    """What is in the envelope, where there is one."""
    inside = answer.body.get("data") if "success" in answer.body else None
    return inside if isinstance(inside, dict) else answer.body


def health(answer: Answered) -> Json:
    return {"status": answer.body["status"], "services": answer.body["services"]}


def page(answer: Answered) -> Page:
    """Raises KeyError for what is no list."""
    found = answer.body
    if isinstance(found["data"], dict):
        found = {"data": found["data"]["items"], **found["data"]}
    cursor = found.get("next_cursor") or (found.get("last_id") if found.get("has_more") else None)
    return Page(list(found["data"]), bool(found.get("has_more")), cursor)


def provider_page(answer: Answered) -> Page:
    found = answer.body
    return Page(list(found["providers"]), bool(found.get("has_more")), found.get("next_cursor"))


def completion(answer: Answered) -> Completion:
    choice = answer.body["choices"][0]
    message = choice["message"]
    return Completion(
        text=message.get("content") or message.get("refusal") or "",
        tool_calls=message.get("tool_calls") or [],
        finish_reason=choice["finish_reason"],
        usage=answer.body.get("usage") or {},
        conversation_id=answer.headers.get("x-conversation-id"),
        raw=answer.body,
    )


def given(fields: Mapping[str, Any]) -> Json:
    """A body of those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def query(**fields: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in fields.items() if value is not None}
