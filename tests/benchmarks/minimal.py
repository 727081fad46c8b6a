"""The obvious way to serve a LangGraph agent: what a good engineer writes in an afternoon.

The graph is built once, the client is shared, tokens come by LangGraph's `messages` mode. It has
no storage, no authentication, no limits, no error handling and nothing to configure.

`uvicorn --factory tests.benchmarks.minimal:main`, with the provider in OPENAI_BASE_URL.
"""

import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from langchain_core.messages import AIMessageChunk, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, SecretStr

Graph = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]
SYSTEM = SystemMessage("You are a helpful assistant.")


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


def main() -> FastAPI:
    app = FastAPI()
    graph = build_graph()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest) -> Response | dict[str, Any]:
        messages = [message.model_dump() for message in body.messages]
        if body.stream:
            return StreamingResponse(
                stream(graph, messages, body.model), media_type="text/event-stream"
            )
        return await complete(graph, messages, body.model)

    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        return {"status": "ok"}

    return app


def build_graph() -> Graph:
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        base_url=os.environ["OPENAI_BASE_URL"],
        api_key=SecretStr(os.environ["OPENAI_API_KEY"]),
    )

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([SYSTEM, *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph.compile()


async def complete(graph: Graph, messages: list[Any], model: str) -> dict[str, Any]:
    state = await graph.ainvoke({"messages": messages})
    answer = state["messages"][-1]
    usage = answer.usage_metadata or {}
    return {
        **head(model, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.content},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.get("input_tokens", 0),
            "completion_tokens": usage.get("output_tokens", 0),
            "total_tokens": usage.get("total_tokens", 0),
        },
    }


async def stream(graph: Graph, messages: list[Any], model: str) -> AsyncIterator[str]:
    start = head(model, "chat.completion.chunk")
    yield event({**start, "choices": [choice({"role": "assistant", "content": ""})]})
    async for chunk, _ in graph.astream({"messages": messages}, stream_mode="messages"):
        if isinstance(chunk, AIMessageChunk) and chunk.content:
            yield event({**start, "choices": [choice({"content": chunk.content})]})
    yield event({**start, "choices": [choice({}, finish="stop")]})
    yield "data: [DONE]\n\n"


def head(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def event(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload)}\n\n"
