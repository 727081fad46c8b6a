"""Ask an agent with the official OpenAI SDK, in one piece and as a stream.

python examples/chat.py [MODEL]
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("RUNTIME_TOKEN", "local"),
)
model = sys.argv[1] if len(sys.argv) > 1 else "assistant"

answer = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "Hello! My name is Ada."}]
)
print(answer.choices[0].message.content)

stream = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "Count to 10"}], stream=True
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
