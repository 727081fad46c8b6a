"""What the demo model says: rules in order, the first that fits answers."""

import re
from collections.abc import Callable, Sequence

from runtime.domain.value_objects.chat import ChatRole, ImagePart, Message
from runtime.infrastructure.providers.demo.texts import LONGEST_LOOKED_AT, count_words

_LONGEST_QUOTE = 2_000
_LONGEST_COUNT = 10_000

_TELLS_NAME = re.compile(
    r"\b(?:my name is|my name's|i am called|i'm called|call me)\s+([^\W\d_][\w'-]*)"
    r"|(?:我叫|我的名字是|我名叫)\s*([^\s\W]{1,20})",
    re.IGNORECASE,
)
_ASKS_NAME = re.compile(
    r"\bwhat(?:'s| is| was) my name\b|\bwho am i\b|\b(?:know|remember|recall) my name\b"
    r"|我叫什么|我的名字(?:是什么|叫什么|吗)|我是谁|记得我(?:叫|的名字)",
    re.IGNORECASE,
)
_ASKS_FIRST = re.compile(
    r"\bfirst (?:message|question|thing)\b|\bwhat did i (?:say|ask|write) first\b"
    r"|第一(?:条消息|句话|个问题)|最开始(?:说|问)",
    re.IGNORECASE,
)
_ASKS_EARLIER = re.compile(
    r"\bwhat (?:did|have|had) (?:i|we)\b.*\b(?:say|said|ask|asked|tell|told|talk|talked|discuss|"
    r"discussed|write|written)\b|\b(?:previous|last|earlier) (?:message|question)s?\b"
    r"|(?:刚才|刚刚|之前|上一(?:条|句|次)).*(?:说|问|消息|什么)",
    re.IGNORECASE,
)
_ASKS_INSTRUCTIONS = re.compile(
    r"\bsystem (?:prompt|message)\b|\b(?:your|the) instructions\b"
    r"|系统提示|你的(?:指令|设定|提示词)",
    re.IGNORECASE,
)
_ASKS_COUNT = re.compile(r"\bcount (?:up )?to (\d{1,6})\b|数到\s*(\d{1,6})", re.IGNORECASE)
_CHINESE = re.compile(r"[\u3400-\u9fff]")

_Rule = Callable[[str, Sequence[Message]], str | None]


def answer(messages: Sequence[Message]) -> str:
    said = last_user_text(messages)
    asked = said[:LONGEST_LOOKED_AT]
    for rule in (_name, _first, _earlier, _instructions, _count):
        found = rule(asked, messages)
        if found is not None:
            return f"[demo] {found}"
    return f"[demo] {_echo(said, messages)}"


def last_user_text(messages: Sequence[Message]) -> str:
    return next((each.text for each in reversed(messages) if each.role == ChatRole.USER), "")


def returned(messages: Sequence[Message]) -> str:
    """What the tools at the end of the conversation returned."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    parts = []
    for message in _results(messages):
        name = names.get(message.tool_call_id or "") or message.name or "the tool"
        parts.append(f"{name} returned {_cut(message.text)}.")
    return f"[demo] {' '.join(parts)}"


def _results(messages: Sequence[Message]) -> list[Message]:
    results: list[Message] = []
    for message in reversed(messages):
        if message.role != ChatRole.TOOL:
            break
        results.insert(0, message)
    return results


def _name(asked: str, messages: Sequence[Message]) -> str | None:
    if not _ASKS_NAME.search(asked):
        return None
    chinese = _CHINESE.search(asked)
    for text in reversed(_user_texts(messages)):
        told = None if _ASKS_NAME.search(text) else _TELLS_NAME.search(text)
        if told:
            name = told.group(1) or told.group(2)
            return f"你叫{name}。" if chinese else f"Your name is {name}."
    return "你还没有告诉我你的名字。" if chinese else "You have not told me your name yet."


def _first(asked: str, messages: Sequence[Message]) -> str | None:
    if not _ASKS_FIRST.search(asked):
        return None
    earlier = _user_texts(messages)[:-1]
    if _CHINESE.search(asked):
        return f"你的第一条消息是“{_cut(earlier[0])}”。" if earlier else "这就是你的第一条消息。"
    if not earlier:
        return "This is your first message."
    return f"Your first message was: “{_cut(earlier[0])}”."


def _earlier(asked: str, messages: Sequence[Message]) -> str | None:
    if not _ASKS_EARLIER.search(asked):
        return None
    earlier = [f"“{_cut(text)}”" for text in _user_texts(messages)[:-1]][-5:]
    if _CHINESE.search(asked):
        return f"在此之前你说过{'、'.join(earlier)}。" if earlier else "你之前什么也没有说。"
    if not earlier:
        return "You have not said anything before this."
    return f"Before this you said: {', '.join(earlier)}."


def _instructions(asked: str, messages: Sequence[Message]) -> str | None:
    if not _ASKS_INSTRUCTIONS.search(asked):
        return None
    roles = (ChatRole.SYSTEM, ChatRole.DEVELOPER)
    told = next((each.text.strip() for each in messages if each.role in roles), "")
    chinese = _CHINESE.search(asked)
    if not told:
        return "我没有收到任何指令。" if chinese else "I was given no instructions."
    start = told[:60] + ("…" if len(told) > 60 else "")
    return f"我的指令开头是“{start}”。" if chinese else f"My instructions begin: “{start}”."


def _count(asked: str, messages: Sequence[Message]) -> str | None:
    found = _ASKS_COUNT.search(asked)
    if not found:
        return None
    last = min(int(found.group(1) or found.group(2)), _LONGEST_COUNT)
    return " ".join(str(number) for number in range(1, last + 1))


def _echo(said: str, messages: Sequence[Message]) -> str:
    turn = sum(1 for message in messages if message.role == ChatRole.USER)
    images = _images(messages)
    if _CHINESE.search(said):
        sent = f"你发送了 {images} 张图片。" if images else ""
        about = "我是内置的演示模型。接入真正的模型即可得到真正的回答。" if turn <= 1 else ""
        return f"你说的是“{_cut(said)}”。{sent}这是第 {turn} 轮对话。{about}"
    sent = f" You sent {images} image{'s' if images > 1 else ''}." if images else ""
    about = " I am the built-in demo model; connect a real one for real answers."
    return f"You said: “{_cut(said)}”.{sent} This is turn {turn}.{about if turn <= 1 else ''}"


def _images(messages: Sequence[Message]) -> int:
    for message in reversed(messages):
        if message.role == ChatRole.USER:
            parts = () if isinstance(message.content, str) else message.content
            return sum(1 for part in parts if isinstance(part, ImagePart))
    return 0


def _user_texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages if message.role == ChatRole.USER]


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def counted(messages: Sequence[Message]) -> int:
    """The input's tokens: its words."""
    return sum(
        count_words(message.text) + sum(count_words(call.arguments) for call in message.tool_calls)
        for message in messages
    )
