import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from runtime.cli.failures import Failure

LONGEST = 64
_TEMPLATE = '''\
from typing import Any

from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field

from runtime.templates.langgraph import LangGraphTemplate


class {class_name}(LangGraphTemplate):
    """Say here what its agents are for; people choose a template by this text."""

    template_id = {template_id}
    template_name = {template_name}
    template_version = "1.0.0"

    class Config(BaseModel):
        role: str = Field(default="a helpful assistant", description="Who the agent is.")
        sentences: int = Field(default=3, ge=1, le=20, description="Longest answer.")

    def build_graph(self) -> StateGraph:
        graph = StateGraph(MessagesState)
        graph.add_node("answer", self.answer)
        graph.add_edge(START, "answer")
        return graph

    async def answer(self, state: MessagesState) -> dict[str, Any]:
        system = f"You are {{self.config.role}}. Use at most {{self.config.sentences}} sentences."
        messages = self.conversation(state["messages"], system=system)
        return {{"messages": [await self.model.ainvoke(messages)]}}
'''


@dataclass(frozen=True)
class Scaffold:
    """A new template's names, and its file."""

    template_name: str
    template_id: str
    file_name: str
    class_name: str

    @classmethod
    def of(cls, name: str) -> "Scaffold":
        words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", name))
        class_name = "".join(word[0].upper() + word[1:] for word in words)
        if not class_name.isidentifier() or len(name) > LONGEST:
            raise Failure(
                f"'{name}' is no name for a template: it begins with a letter and has at most "
                f"{LONGEST} characters.",
                2,
            )
        lower = [word.lower() for word in words]
        return cls(
            template_name=name.strip(),
            template_id="-".join(lower),
            file_name=f"{'_'.join(lower)}.py",
            # The suffix keeps it apart from keywords and from what the file imports.
            class_name=class_name if class_name.endswith("Agent") else f"{class_name}Agent",
        )

    def write(self, folder: Path) -> Path:
        path = folder / self.file_name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(self.source())
        except FileExistsError as error:
            raise Failure(f"{path} is already there; nothing was changed.") from error
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror}.") from error
        return path

    def source(self) -> str:
        return _TEMPLATE.format(
            class_name=self.class_name,
            template_id=_literal(self.template_id),
            template_name=_literal(self.template_name),
        )


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
