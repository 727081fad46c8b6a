"""What of the messages that a client sends is new to a conversation."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.domain.value_objects.chat import ChatRole, ImagePart, Message, TextPart, ToolCall
from runtime.domain.value_objects.ids import ItemId
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    messages_of,
)
from runtime.domain.value_objects.memory import (
    Merged,
    Placed,
    is_task_prompt,
    items_from,
    known,
    merged,
    split,
)


def message(word: str) -> Message:
    """`u…` says the user, `a…` the assistant."""
    return Message({"u": ChatRole.USER, "a": ChatRole.ASSISTANT}[word[0]], word)


def talk(words: str) -> list[Message]:
    return [message(word) for word in words.split()]


def merge(memory: str, sent: str, *, whole: bool = False) -> tuple[str, str]:
    """What stays of memory and what is new, in words."""
    old = talk(memory)
    found = merged(old, talk(sent), whole=whole)
    assert found
    return said(old[: found.keep]), said(found.new)


def said(messages: Sequence[Message]) -> str:
    return " ".join(each.text for each in messages)


@pytest.mark.parametrize(
    ("memory", "sent", "stays", "new"),
    [
        # Only what is new.
        ("", "u1", "", "u1"),
        ("u1 a1", "u2", "u1 a1", "u2"),
        ("u1 a1", "u1", "u1 a1", "u1"),
        ("u1 a1", "u2 u3", "u1 a1", "u2 u3"),
        # The whole conversation.
        ("", "u1 a1 u2", "", "u1 a1 u2"),
        ("u1 a1", "u1 a1 u2", "u1 a1", "u2"),
        ("u1 a1 u1 a1", "u1 a1 u1 a1 u1", "u1 a1 u1 a1", "u1"),
        ("u1 a1", "u1 a1", "u1 a1", ""),
        # Its end, as a client sends it that keeps few messages.
        ("u1 a1 u2 a2", "a1 u2 a2 u3", "u1 a1 u2 a2", "u3"),
        ("u1 a1 u2 a2", "u2 a2 u3", "u1 a1 u2 a2", "u3"),
        ("u1 a1 u2 a2", "a2 u3", "u1 a1 u2 a2", "u3"),
        # Edited: memory goes on from where they part.
        ("u1 a1 u2 a2", "u1 a1 u3", "u1 a1", "u3"),
        ("u1 a1 u2 a2 u3 a3", "u1 a1 u4", "u1 a1", "u4"),
        ("u1 a1 u2 a2 u3 a3", "u1 a9 u2", "u1", "a9 u2"),
        ("u1 a1 u2 a2 u3 a3", "a1 u2 a2 u9", "u1 a1 u2 a2", "u9"),
        # Regenerated: asked again, the answer gives way.
        ("u1 a1 u2 a2", "u1 a1 u2", "u1 a1 u2", ""),
        ("u1 a1 u1 a1", "u1 a1 u1", "u1 a1 u1", ""),
        # Nothing in common: only what comes after the client's last answer is remembered.
        ("u1 a1", "u8 a8 u9", "u1 a1", "u9"),
        ("u1 a1 u2 a2", "a8 u9", "u1 a1 u2 a2", "u9"),
        # The client knows more of the beginning.
        ("u2 a2", "u1 a1 u2 a2 u3", "u2 a2", "u3"),
        # A word that happens to be the same in the middle is no proof.
        ("u1 a1 u2 a2", "u2 a9 u3", "u1 a1 u2 a2", "u3"),
    ],
)
def test_nothing_is_remembered_twice(memory: str, sent: str, stays: str, new: str) -> None:
    assert merge(memory, sent) == (stays, new)


@pytest.mark.parametrize(
    ("memory", "sent", "stays", "new"),
    [
        ("", "u1", "", "u1"),
        ("u1 a1", "u1", "u1", ""),
        ("u1 a1", "u2", "", "u2"),
        ("u1 a1 u2 a2", "u1 a1 u2", "u1 a1 u2", ""),
        ("u1 a1 u2 a2", "u1", "u1", ""),
        ("u1 a1", "u1 a1 u2", "u1 a1", "u2"),
        ("u1 a1", "u8 a8 u9", "", "u8 a8 u9"),
        ("u1 a1 u2 a2", "u2 a2 u3", "u1 a1 u2 a2", "u3"),
    ],
)
def test_a_client_that_sends_everything_is_followed(
    memory: str, sent: str, stays: str, new: str
) -> None:
    assert merge(memory, sent, whole=True) == (stays, new)


def test_strangers_are_answered_from_what_the_client_sent() -> None:
    sent = talk("u8 a8 u9")
    found = merged(talk("u1 a1"), sent)

    assert found
    assert found.instead == sent


def test_what_a_client_that_sends_everything_left_out_does_not_count_for_the_answer() -> None:
    found = merged(talk("u1 a1 u2 a2"), talk("u2 a2 u3"), whole=True)
    assert found
    assert (found.keep, found.shown_from) == (4, 2)


conversations = st.lists(st.integers(0, 2), max_size=12).map(
    lambda numbers: [message(f"{'ua'[at % 2]}{n}") for at, n in enumerate(numbers)]
)


@given(conversations, st.integers(0, 2), st.integers(1, 12))
def test_memory_and_the_new_message_are_what_the_client_shows(
    shown: list[Message], word: int, tail: int
) -> None:
    """However often a conversation repeats itself, and however much of it memory has."""
    memory = shown[: len(shown) // 2 * 2]
    sent = [*memory, message(f"u{word}")]
    found = merged(memory, sent, whole=True)

    assert found
    assert [*memory[: found.keep], *found.new] == sent
    end = merged(memory[-tail:], sent, whole=True, complete=len(memory) <= tail)
    if end and len(memory) > tail:
        assert [*memory[: len(memory) - len(memory[-tail:]) + end.keep], *end.new] == sent


def test_of_a_conversation_that_repeats_itself_the_end_is_found_at_the_end() -> None:
    found = merged(talk("u1 a1"), talk("u1 a1 u1 a1 u1"), complete=False)
    assert found
    assert (found.keep, said(found.new)) == (2, "u1")


@given(conversations, conversations, st.booleans())
def test_no_two_conversations_are_too_odd(
    memory: list[Message], sent: list[Message], whole: bool
) -> None:
    found = merged(memory, sent, whole=whole)

    assert found
    assert 0 <= found.keep <= len(memory)
    assert list(found.new) == sent[len(sent) - len(found.new) :]
    part = merged(memory, sent, whole=whole, complete=False)
    assert part is None or part.keep == len(memory)


def test_with_only_the_end_at_hand_it_is_said_when_that_is_not_enough() -> None:
    end = talk("u2 a2 u3 a3")

    assert merged(end, talk("u4"), complete=False) == Merged(4, talk("u4"))
    for enough in ("u1 a1 u2 a2 u3 a3 u4", "u3 a3 u4", "a3 u4"):
        found = merged(end, talk(enough), complete=False)
        assert found
        assert (found.keep, said(found.new)) == (4, "u4")
    for not_enough in ("u1 a1 u4", "u1 a1 u2 a2 u4", "u8 a8 u9", "u1 a3 u4"):
        assert merged(end, talk(not_enough), complete=False) is None
    assert merged(end, talk("u1"), whole=True, complete=False) is None


def test_the_same_words_are_the_same_however_a_chat_ui_shows_them() -> None:
    memory = [message("u1"), Message(ChatRole.ASSISTANT, "Yes.\nIt is.")]
    folded = '<details type="reasoning" done="true">\n<summary>Thought</summary>Hm\n</details>\n'
    sent = [Message(ChatRole.USER, (TextPart(" u1 "),)), memory[1], message("u2")]
    for text in (
        folded + "Yes.  It is.\n",
        f"Yes. {folded} It is.",
        f"{folded}{folded}Yes. It is.",
    ):
        sent[1] = Message(ChatRole.ASSISTANT, text)
        found = merged(memory, sent)
        assert found
        assert (found.keep, said(found.new)) == (2, "u2")


def test_an_unclosed_details_costs_no_time() -> None:
    text = "<details>" * 100_000
    memory = [message("u1"), Message(ChatRole.ASSISTANT, text)]
    found = merged(memory, [*memory, message("u2")])
    assert found
    assert found.keep == 2


def test_another_image_is_another_message() -> None:
    def pictured(url: str) -> Message:
        return Message(ChatRole.USER, (TextPart("What is it?"), ImagePart(url)))

    memory = [pictured("https://x.test/cat.png"), message("a1")]
    found = merged(memory, [pictured("https://x.test/dog.png"), message("a1"), message("u2")])
    assert found
    assert found.instead is not None


def test_results_of_a_caller_s_functions_are_new_behind_their_calls() -> None:
    call = Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c1", "f", "{}"),))
    result = Message(ChatRole.TOOL, "42", tool_call_id="c1")
    memory = [message("u1"), call]

    for sent in ([result], [call, result], [message("u1"), call, result]):
        found = merged(memory, sent)
        assert found
        assert (found.keep, list(found.new)) == (2, [result])


def test_the_request_s_own_instructions_are_told_apart() -> None:
    rules = [Message(ChatRole.SYSTEM, "Be brief."), Message(ChatRole.DEVELOPER, "Be kind.")]
    late = Message(ChatRole.SYSTEM, "The user is angry.")

    assert split([*rules, message("u1"), late]) == (rules, [message("u1"), late])
    assert split(rules) == (rules, [])


def test_a_chat_ui_s_own_question_is_recognised() -> None:
    task = Message(ChatRole.USER, "### Task:\nSuggest a title")

    assert is_task_prompt([message("u1"), message("a1"), task])
    assert not is_task_prompt([task, message("a1"), message("u2")])
    assert not is_task_prompt([message("u1")])


def placed(*items: Item) -> list[Placed]:
    return [Placed(position * 10, item) for position, item in enumerate(items)]


def test_thoughts_and_tools_belong_to_the_answer_they_lead_to() -> None:
    call = ToolCall("c1", "f", "{}")
    found = known(
        placed(
            MessageItem(ItemId("1"), message("u1")),
            ReasoningItem(ItemId("2"), "Hm."),
            MessageItem(ItemId("3"), message("a1")),
            FunctionCallItem(ItemId("4"), call),
            FunctionOutputItem(ItemId("5"), "c1", "42"),
            AgentToolItem(ItemId("6"), "c2", "search", "{}"),
            MessageItem(ItemId("7"), message("a2")),
        )
    )

    assert [each.message.text for each in found] == ["u1", "a1", "42", "a2"]
    assert found[1].message.tool_calls == (call,)
    assert [each.end for each in found] == [1, 31, 41, 61]


def test_messages_become_items_and_are_the_same_messages_again() -> None:
    messages = [
        message("u1"),
        Message(ChatRole.ASSISTANT, "a1", tool_calls=(ToolCall("c1", "f", "{}"),)),
        Message(ChatRole.TOOL, "42", tool_call_id="c1"),
        Message(ChatRole.ASSISTANT, tool_calls=(ToolCall("c2", "f", "{}"),)),
        Message(ChatRole.TOOL, "43", tool_call_id="c2"),
        Message(ChatRole.ASSISTANT, "", refusal="No."),
        Message(ChatRole.SYSTEM, "Be brief.", name="boss"),
    ]
    items = items_from(messages)

    assert messages_of(items) == messages
    assert len({item.id for item in items}) == len(items) == 8
