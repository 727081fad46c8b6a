"""What of the messages that a client sends is new to a conversation that is remembered.

A client may send the whole conversation, its end, or only what is new. What it shows counts:
where it differs from memory, memory gives way.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.domain.value_objects.chat import ChatRole, Message, TextPart
from runtime.domain.value_objects.ids import new_item_id
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    messages_of,
)

TASK_PROMPT = "### Task:"
"""How a chat UI's own questions begin: for a title, for tags, for what to ask next."""
INSTRUCTIONS = (ChatRole.SYSTEM, ChatRole.DEVELOPER)
_SPACE = re.compile(r"\s+")
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """An item at its place in a session. Places grow; where an item was removed, one is empty."""

    position: int
    item: Item


@dataclass(frozen=True, slots=True)
class Known:
    """A remembered message."""

    message: Message
    end: int
    """The position behind its last item."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What a run knows of its conversation beside the messages."""

    summary: str
    """Of what came before them; empty: nothing did."""
    to_fold: Sequence[Message] = ()
    """What lies between the two, and is to go into the summary now."""


@dataclass(frozen=True, slots=True)
class Merged:
    keep: int
    """How many of the remembered messages stay."""
    new: Sequence[Message]
    """To be remembered behind them."""
    shown_from: int = 0
    """The first remembered message that counts for this answer."""
    instead: Sequence[Message] | None = None
    """What counts for this answer in place of memory."""


def known(items: Iterable[Placed]) -> list[Known]:
    """The messages that a model reads. A call and what is said with it are one; thoughts and the
    agent's own tools belong to what the assistant says next."""
    found: list[Known] = []
    begun: list[Placed] = []

    def end() -> None:
        for message in messages_of(placed.item for placed in begun):
            found.append(Known(message, begun[-1].position + 1))
        begun.clear()

    for placed in items:
        if not _of_assistant(placed.item):
            end()
            begun.append(placed)
            end()
        else:
            begun.append(placed)
    end()
    return found


def _of_assistant(item: Item) -> bool:
    match item:
        case MessageItem(message=message):
            return message.role is ChatRole.ASSISTANT
        case FunctionOutputItem():
            return False
        case FunctionCallItem() | ReasoningItem() | AgentToolItem():
            return True


def split(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The request's own instructions, which are never remembered, and the conversation."""
    start = next((i for i, m in enumerate(messages) if m.role not in INSTRUCTIONS), len(messages))
    return messages[:start], messages[start:]


def is_task_prompt(messages: Sequence[Message]) -> bool:
    last = messages[-1]
    return last.role is ChatRole.USER and last.text.lstrip().startswith(TASK_PROMPT)


def shows_history(sent: Sequence[Message]) -> bool:
    return any(message.role is ChatRole.ASSISTANT for message in sent)


def merged(
    memory: Sequence[Message],
    sent: Sequence[Message],
    *,
    whole: bool = False,
    complete: bool = True,
) -> Merged | None:
    """What `sent` adds to `memory`, and what of it stays.

    `whole`: the client always sends the conversation from its beginning. Not `complete`: there is
    more before `memory`; None then, when that has to be known.
    """
    if not (whole or shows_history(sent)):
        return Merged(len(memory), sent)
    if not memory:
        return Merged(0, sent) if complete else None
    old, new = [_key(m) for m in memory], [_key(m) for m in sent]
    match = _best_match(old, new, complete=complete)
    if not complete:
        return _at_the_end(len(old), sent, match, whole=whole)
    if match is None:
        return _strangers(memory, sent, whole=whole)
    start, offset, length = match
    keep = start + length
    if offset:
        return Merged(keep, sent[offset + length :], instead=sent)
    # What was sent already and not answered since is asked again: its answer is replaced.
    return Merged(keep, sent[length:], shown_from=start if whole else 0)


def _strangers(memory: Sequence[Message], sent: Sequence[Message], *, whole: bool) -> Merged:
    if whole:
        return Merged(0, sent)
    last = max((i for i, m in enumerate(sent) if m.role is ChatRole.ASSISTANT), default=-1)
    return Merged(len(memory), sent[last + 1 :], instead=sent)


_Match = tuple[int, int, int]
"""Where the common part starts in memory, where in what was sent, and how long it is."""


def _at_the_end(
    total: int, sent: Sequence[Message], match: _Match | None, *, whole: bool
) -> Merged | None:
    """With only the end of memory at hand: sure where all of it was sent, or where all that was
    sent up to the last answer is in it."""
    if match is None:
        return None
    start, offset, length = match
    if start + length < total:
        return None
    if start and shows_history(sent[length:]):
        return None
    return Merged(total, sent[offset + length :], shown_from=start if whole else 0)


def _best_match(old: Sequence[_Key], new: Sequence[_Key], *, complete: bool) -> _Match | None:
    """The longest common part that begins where either begins; one that reaches memory's end is
    preferred, then one at memory's beginning where that is at hand, then the latest.

    In the middle of memory, and where it is cut short, a lone message is no proof.
    """
    found: list[tuple[int, bool, bool, int, _Match]] = []
    for start, length in enumerate(_prefixes(new, old)):
        to_end = start + length == len(old)
        if length and (to_end or not start or _proves(new[:length])):
            first = complete and not start
            found.append((length, to_end, first, start, (start, 0, length)))
    for offset, length in enumerate(_prefixes(old, new)):
        if offset and length == len(old):
            found.append((length, True, False, offset, (0, offset, length)))
    return max(found)[-1] if found else None


def _proves(keys: Sequence[_Key]) -> bool:
    return len(keys) > 1 and any(key[0] is ChatRole.ASSISTANT for key in keys)


def _prefixes(pattern: Sequence[_Key], text: Sequence[_Key]) -> list[int]:
    """For each place in `text`, how much of `pattern`'s beginning stands there: the Z algorithm,
    in linear time however often a conversation repeats itself."""
    both: list[_Key | None] = [*pattern, None, *text]
    z = [0] * len(both)
    left = right = 0
    for i in range(1, len(both)):
        if i < right:
            z[i] = min(right - i, z[i - left])
        while i + z[i] < len(both) and both[z[i]] == both[i + z[i]] and both[i + z[i]] is not None:
            z[i] += 1
        if i + z[i] > right:
            left, right = i, i + z[i]
    return z[len(pattern) + 1 :]


def _key(message: Message) -> _Key:
    """By which two messages are the same: what a chat UI adds to them and how it breaks lines
    makes no difference."""
    text = message.text
    if message.role is ChatRole.ASSISTANT:
        text = _without_details(text) + (message.refusal or "")
    parts = () if isinstance(message.content, str) else message.content
    return (
        message.role,
        _SPACE.sub(" ", text).strip(),
        tuple(call.id for call in message.tool_calls),
        message.tool_call_id,
        tuple(part for part in parts if not isinstance(part, TextPart)),
    )


def _without_details(text: str) -> str:
    """Without the `<details>` in which chat UIs fold thoughts and calls."""
    if "<details" not in text:
        return text
    kept, at = [], 0
    while (start := text.find("<details", at)) >= 0:
        end = text.find("</details>", start)
        if end < 0:
            break
        kept.append(text[at:start])
        at = end + len("</details>")
    return "".join((*kept, text[at:]))


def items_from(messages: Iterable[Message]) -> list[Item]:
    """Messages of a client as items: a call is one of its own."""
    items: list[Item] = []
    for message in messages:
        if message.role is ChatRole.TOOL:
            call_id = message.tool_call_id or ""
            items.append(FunctionOutputItem(new_item_id("fco"), call_id, message.content))
            continue
        if message.content or message.refusal or not message.tool_calls:
            said = Message(
                message.role, message.content, name=message.name, refusal=message.refusal
            )
            items.append(MessageItem(new_item_id("msg"), said))
        items += [FunctionCallItem(new_item_id("fc"), call) for call in message.tool_calls]
    return items
