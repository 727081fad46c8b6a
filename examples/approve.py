"""Order a run whose tool needs a person's word, give it, and read what came of it.

agent-runtime agents create examples/refunds/agent.yaml --publish
python examples/approve.py
"""

import os
import time
from typing import Any

import httpx

token = os.environ.get("RUNTIME_TOKEN")
http = httpx.Client(
    base_url=os.environ.get("RUNTIME_URL", "http://127.0.0.1:8000"),
    headers={"Authorization": f"Bearer {token}"} if token else {},
)


def call(method: str, path: str, **body: object) -> dict[str, Any]:
    answer: dict[str, Any]
    answer = http.request(method, path, json=body or None).raise_for_status().json()
    return answer


def until(run: dict[str, Any], *statuses: str) -> dict[str, Any]:
    while run["status"] not in (*statuses, "completed", "failed", "cancelled"):
        time.sleep(0.1)
        run = call("GET", f"/v1/runs/{run['id']}")
    return run


said = 'Please refund {"order": "A-17", "amount": 40}'
run = until(call("POST", "/v1/runs", model="refunds", input=said), "waiting")
(asked,) = call("GET", f"/v1/runs/{run['id']}/approvals")["data"]
print(f"{run['status']} for {asked['tool']}({asked['arguments']})")

call(
    "POST",
    f"/v1/runs/{run['id']}/approvals/{asked['id']}",
    decision="edit",
    arguments={"order": "A-17", "amount": 20},
    reason="Half of it: it was used.",
    arguments_hash=asked["arguments_hash"],
)
print(until(run)["status"])
(made,) = call("GET", f"/v1/runs/{run['id']}/tool_calls")["data"]
print(made["output"])
