import sys

import typer

from runtime.cli import output
from runtime.cli.client import Client, Json
from runtime.cli.failures import Failure


class Conversation:
    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        self._messages: list[Json] = []
        self._at_terminal = sys.stdout.isatty()

    def ask(self, text: str) -> None:
        """Show the answer piece by piece. A turn that fails leaves no trace in the history."""
        turn = [*self._messages, {"role": "user", "content": text}]
        body = {"model": self._model, "messages": turn, "stream": True}
        pieces = []
        try:
            for chunk in self._client.stream("chat/completions", body):
                for choice in chunk.get("choices", ()):
                    piece = choice["delta"].get("content") or choice["delta"].get("refusal") or ""
                    pieces.append(piece)
                    typer.echo(output.harmless(piece) if self._at_terminal else piece, nl=False)
        finally:
            if pieces:
                typer.echo()
        self._messages = [*turn, {"role": "assistant", "content": "".join(pieces)}]

    def hold(self) -> None:
        """Turn by turn until 'exit' or the end of the input."""
        with_person = sys.stdin.isatty()
        if with_person:
            import readline  # noqa: F401 - gives `input` line editing and a history

            typer.echo(f"Talking to {self._model}; 'exit' or Ctrl-D ends.", err=True)
        while True:
            try:
                text = input("> " if with_person else "").strip()
            except EOFError:
                return
            if text in ("exit", "quit"):
                return
            if not text:
                continue
            try:
                self.ask(text)
            except Failure as failure:
                if not with_person:
                    raise
                typer.echo(f"Error: {failure}", err=True)
