import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.domain.value_objects.chat import (
    AudioPart,
    ChatRole,
    FilePart,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)
from runtime.domain.value_objects.ids import ItemId
from runtime.domain.value_objects.items import (
    AgentToolItem,
    FunctionCallItem,
    FunctionOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)
from runtime.infrastructure.repositories.items import from_json, to_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | texts
ids = texts.map(ItemId)
statuses = st.sampled_from(["in_progress", "completed", "incomplete"])
parts = st.one_of(
    st.builds(TextPart, texts),
    st.builds(ImagePart, texts, st.sampled_from([None, "auto", "low", "high"])),
    st.builds(AudioPart, texts, texts),
    st.builds(FilePart, maybe, maybe, maybe),
)
contents = texts | st.lists(parts, max_size=3).map(tuple)
calls = st.builds(ToolCall, texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(ChatRole),
    contents,
    name=maybe,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=maybe,
    refusal=maybe,
)
items = st.one_of(
    st.builds(MessageItem, ids, messages, statuses),
    st.builds(FunctionCallItem, ids, calls, statuses),
    st.builds(FunctionOutputItem, ids, texts, contents),
    st.builds(ReasoningItem, ids, texts, statuses),
    st.builds(AgentToolItem, ids, texts, texts, texts, maybe, maybe, statuses),
)


@given(items)
def test_every_item_reads_back_the_same(item: Item) -> None:
    assert from_json(orjson.loads(orjson.dumps(to_json(item)))) == item


def test_a_kind_of_a_later_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="hologram"):
        from_json({"id": "x_1", "type": "hologram"})
