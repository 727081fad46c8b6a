"""Order a run that goes on without you, follow it for a while, and come back for the rest.

python examples/long_run.py
"""

import os

from runtime.client import AgentRuntimeClient, RunCompleted, TextDelta

address, token = os.environ.get("RUNTIME_URL"), os.environ.get("RUNTIME_TOKEN")

with AgentRuntimeClient(address, token) as client:
    run = client.start_run("assistant", "Count to 10", metadata={"ticket": "T-42"})
    print(f"ordered, {run['status']}")
    last = 0
    with client.events(run["id"]) as events:
        for event in events:
            last = event.number or last
            if isinstance(event, TextDelta):
                print(f"begins with {event.text.strip()}")
                break

# Another process, another day, another replica: the id and the last number are all it takes.
with AgentRuntimeClient(address, token) as client:
    for event in client.events(run["id"], after=last):
        if isinstance(event, RunCompleted):
            print(f"ended: {event.finish_reason}")
    print(client.wait(run["id"])["output"])
