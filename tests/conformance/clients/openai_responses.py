"""The Responses API and conversations, with the official SDK."""

import json
import time

import openai
from harness import DEMO, UPSTREAM, WEATHER, feature, raised
from openai_chat import City, client


@feature("responses")
def responses():
    answer = client.responses.create(
        model=DEMO, instructions="Speak like a pirate.", input="What is your system prompt?"
    )
    assert answer.object == "response"
    assert answer.status == "completed"
    assert "pirate" in answer.output_text
    assert answer.usage.output_tokens > 0


@feature("responses_stream")
def responses_stream():
    events = list(client.responses.create(model=DEMO, input="count to 20", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    text = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert text == events[-1].response.output_text
    assert text.endswith("19 20")
    with client.responses.stream(model=DEMO, input="count to 3") as streamed:
        assert streamed.get_final_response().output_text.endswith("1 2 3")


@feature("responses_previous")
def responses_previous():
    first = client.responses.create(model=DEMO, input="My name is Ada.")
    second = client.responses.create(
        model=DEMO, input="What is my name?", previous_response_id=first.id
    )
    assert "Ada" in second.output_text
    assert second.previous_response_id == first.id


@feature("responses_tools")
def responses_tools():
    tools = [{"type": "function", "strict": True, **WEATHER}]
    asked = client.responses.create(model=DEMO, input='The weather in "Oslo"?', tools=tools)
    (call,) = (item for item in asked.output if item.type == "function_call")
    assert json.loads(call.arguments) == {"city": "Oslo"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
    answer = client.responses.create(
        model=DEMO, input=[result], tools=tools, previous_response_id=asked.id
    )
    assert "12 degrees" in answer.output_text
    with client.responses.stream(
        model=DEMO, input='The weather in "Oslo"?', tools=tools
    ) as streamed:
        final = streamed.get_final_response()
    assert [item.type for item in final.output] == ["function_call"]


@feature("responses_structured")
def responses_structured():
    text = '"Oslo" has 700000 inhabitants.'
    answer = client.responses.parse(model=DEMO, input=text, text_format=City)
    assert answer.output_parsed == City(name="Oslo", inhabitants=700000)


@feature("responses_background")
def responses_background():
    made = client.responses.create(model=DEMO, input="count to 5", background=True)
    assert made.status in ("queued", "in_progress", "completed")
    for _ in range(100):
        made = client.responses.retrieve(made.id)
        if made.status not in ("queued", "in_progress"):
            break
        time.sleep(0.1)
    assert made.status == "completed"
    assert made.output_text.endswith("4 5")
    slow = client.responses.create(model=UPSTREAM, input="delay:100 words:100", background=True)
    assert client.responses.cancel(slow.id).status == "cancelled"


@feature("responses_stored")
def responses_stored():
    made = client.responses.create(model=DEMO, input="Hello")
    assert client.responses.retrieve(made.id).output_text == made.output_text
    (item,) = client.responses.input_items.list(made.id)
    assert item.content[0].text == "Hello"
    client.responses.delete(made.id)
    raised(openai.NotFoundError, lambda: client.responses.retrieve(made.id))


@feature("conversations")
def conversations():
    talk = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Ada."}],
        metadata={"topic": "names"},
    )
    assert client.conversations.retrieve(talk.id).metadata == {"topic": "names"}
    answer = client.responses.create(model=DEMO, input="What is my name?", conversation=talk.id)
    assert "Ada" in answer.output_text
    items = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.role for item in items] == ["user", "user", "assistant"]
    client.conversations.items.delete(items[0].id, conversation_id=talk.id)
    assert len(list(client.conversations.items.list(talk.id))) == 2
    assert client.conversations.delete(talk.id).deleted
