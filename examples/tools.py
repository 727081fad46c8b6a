"""A tool of the caller's own: the agent asks for it, the caller runs it and sends the result.

python examples/tools.py [MODEL]
"""

import json
import os
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.chat.chat_completion_message_function_tool_call_param import Function

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, right now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def get_weather(city: str) -> str:
    return f"12 degrees and sunny in {city}"


client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("RUNTIME_TOKEN", "local"),
)
model = sys.argv[1] if len(sys.argv) > 1 else "assistant"
messages: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": 'What is the weather in "Oslo"?'}
]
asked = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])

for call in asked.choices[0].message.tool_calls or []:
    if call.type != "function":
        continue
    name, arguments = call.function.name, call.function.arguments
    print(f"asked for: {name}({arguments})")
    function: Function = {"name": name, "arguments": arguments}
    messages += [
        {
            "role": "assistant",
            "tool_calls": [{"id": call.id, "type": "function", "function": function}],
        },
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": get_weather(**json.loads(arguments)),
        },
    ]

answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
print(answer.choices[0].message.content)
