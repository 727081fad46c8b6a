"""Draws terminal.svg from a real session: `.venv/bin/python docs/images/terminal.py`.

The commands run against a server of their own, on a free port and in a temporary folder; only
its address is replaced by the usual one.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8000"
SERVE = "make run"
SESSION = [
    "agent-runtime agents create examples/agents/support.yaml",
    "agent-runtime agents submit support",
    "agent-runtime agents approve support",
    "python examples/chat.py support",
    "agent-runtime agents update support --set template_config.tone=concise",
    "agent-runtime agents diff support",
]
COLUMN, LINE, MARGIN, BAR = 8.43, 20, 18, 34
WIDE = 92
"""Columns of the terminal."""
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
       fill: #d7dce2; white-space: pre }
.p { fill: #7ec699 }
.c { fill: #ffffff; font-weight: 600 }
"""


def recorded() -> list[tuple[str, str]]:
    """Commands, each with what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RUNTIME_DATA_DIR": folder,
            "RUNTIME_PORT": "0",
        }
        server = subprocess.Popen(
            [BIN / "agent-runtime", "serve"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout
            ready = server.stdout.readline()
            address = re.findall(r"http://[\w.:]+", ready)[0]
            environment |= {"RUNTIME_URL": address, "OPENAI_BASE_URL": f"{address}/v1"}
            shown = [(SERVE, ready.replace(address, ADDRESS))]
            for command in SESSION:
                done = subprocess.run(
                    shlex.split(command),
                    cwd=ROOT,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                shown.append((command, done.stdout.replace(address, ADDRESS)))
            return shown
        finally:
            server.terminate()
            server.wait()


def folded(line: str) -> list[str]:
    """As a terminal does it: at the last column, not between words."""
    return [line[start : start + WIDE] for start in range(0, len(line), WIDE)]


def drawn(session: list[tuple[str, str]]) -> str:
    rows: list[str] = []
    for command, output in session:
        rows.append(f'<tspan class="p">$ </tspan><tspan class="c">{escape(command)}</tspan>')
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        rows += [escape(part) for line in lines for part in folded(line)]
        rows.append("")
    width = round(WIDE * COLUMN + 2 * MARGIN)
    height = BAR + LINE * (len(rows) - 1) + MARGIN
    texts = [
        f'<text xml:space="preserve" x="{MARGIN}" y="{BAR + LINE * (number + 0.75)}">{row}</text>'
        for number, row in enumerate(rows)
        if row
    ]
    dots = [
        f'<circle cx="{MARGIN + 4 + 18 * number}" cy="{BAR // 2}" r="5" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1b1f27"/>',
            *dots,
            *texts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (HERE / "terminal.svg").write_text(drawn(recorded()))
