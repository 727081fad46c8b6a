from runtime.infrastructure.frameworks.executor import InProcessExecutor


class LangGraphExecutor(InProcessExecutor):
    """LangGraph shares our environment: a graph is compiled here and streams in the run's task."""

    framework = "langgraph"
