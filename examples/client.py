"""Make an agent, talk with it, and watch it use a tool: the runtime's own Python client.

python examples/client.py [NAME]
"""

import os
import sys

from runtime.client import AgentRuntimeClient, TextDelta, ToolCall, ToolResult

name = sys.argv[1] if len(sys.argv) > 1 else "Reckoner"

with AgentRuntimeClient(os.environ.get("RUNTIME_URL"), os.environ.get("RUNTIME_TOKEN")) as client:
    agent = client.create_agent(
        name=name,
        description="Does sums.",
        system_prompt="You do sums, with the calculator.",
        tools=["calculator"],
    )["data"]
    print(f"{agent['model']} is {agent['status']}")

    said = 'Use the tool calculator with {"expression": "5 + 3"}'
    for event in client.stream_message(agent["agent_id"], said):
        if isinstance(event, ToolCall):
            print(f"calls {event.tool_name}: {event.arguments}")
        elif isinstance(event, ToolResult):
            print(f"gets {event.output}")
        elif isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
    print()
