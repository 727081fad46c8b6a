"""A graph of your own behind `custom-agent`: ask the model what is wanted, then answer.

RUNTIME_TEMPLATE_DIRS=examples/own_graph make run
agent-runtime agents create examples/own_graph/agent.yaml --publish
"""

from typing import Any

from langgraph.graph import START, MessagesState, StateGraph

from runtime.templates.langgraph import RuntimeChatModel


class State(MessagesState):
    topic: str


def build(model: RuntimeChatModel, settings: dict[str, Any]) -> StateGraph[State]:
    topics: dict[str, str] = settings["topics"]

    async def classify(state: State) -> dict[str, Any]:
        ask = f"Answer with one of these words and nothing else: {', '.join(topics)}."
        # `quiet`: what the model says here is not for the caller.
        reply = await model.quiet.ainvoke([("system", ask), *state["messages"]])
        text = str(reply.text).lower()
        return {"topic": next((topic for topic in topics if topic in text), "")}

    async def answer(state: State) -> dict[str, Any]:
        system = topics.get(state["topic"], "Ask the user what they need.")
        return {"messages": [await model.ainvoke([("system", system), *state["messages"]])]}

    graph = StateGraph(State).add_node(classify).add_node(answer)
    return graph.add_edge(START, "classify").add_edge("classify", "answer")
