"""Write a LangGraph template: a `Config` with the blanks, and `build_graph`.

class Greeter(LangGraphTemplate):
    template_id, template_name = "greeter", "Greeter"

    class Config(BaseModel):
        language: str = "English"

    def build_graph(self): ...
"""

from runtime.templates.langgraph.base import LangGraphTemplate
from runtime.templates.langgraph.chat_model import NOSTREAM, RuntimeChatModel
from runtime.templates.langgraph.messages import from_langchain, to_langchain
from runtime.templates.langgraph.single import SingleNodeTemplate

__all__ = [
    "NOSTREAM",
    "LangGraphTemplate",
    "RuntimeChatModel",
    "SingleNodeTemplate",
    "from_langchain",
    "to_langchain",
]
