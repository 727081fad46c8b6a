"""What the README and the pages under docs/ say is done, in their order, against a real server.

The words after a fence's language say what becomes of the block:
`sh run`, `python run`    runs it; it has to succeed
`… file=NAME`             writes it to that file; a template is waited for
`text output`             what the last block printed; … stands for anything
`json output`             the same, of which these fields have these values
`json config=TEMPLATE`    is a valid configuration, and an agent of it answers
`… with=CLIENT`           is left to `make conformance`, which has that client's environment
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.domain import errors
from runtime.domain.errors import DomainError
from runtime.infrastructure.web.errors import STATUS
from tests.e2e.server import Served, serving
from tests.pages import ADDRESS, FENCE, ROOT, Block, blocks

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^()\s]+)\)")
PATH = re.compile(r"`((?:docs|examples|migrations|requirements|runtime|tests)/[\w./-]*\w)`")
TOKEN = "only-a-token-of-the-tests"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Reader:
    """Does what a page says, in a folder of its own."""

    def __init__(self, runtime: Served, folder: Path) -> None:
        self._runtime = runtime
        self._folder = folder
        self._printed = ""
        (folder / "examples").symlink_to(ROOT / "examples")

    async def follow(self, block: Block) -> None:
        if file := block.option("file"):
            await self._write(self._folder / file, block.text)
        elif template := block.option("config"):
            await self._try(template, json.loads(block.text))
        elif block.words == ("output",):
            block.compare(self._printed)
        else:
            assert block.words == ("run",), f"{block.words} means nothing here"
            await self._run(block)

    async def _write(self, path: Path, text: str) -> None:
        before = await self._runtime.get("/v1/templates")
        path.parent.mkdir(exist_ok=True)
        beside = path.with_name(f".{path.name}")
        beside.write_text(text)
        beside.replace(path)
        if path.parent.name == "templates":
            listed = await self._runtime.until(lambda found: found != before, "/v1/templates")
            assert listed["errors"] == []

    async def _try(self, template: str, config: dict[str, Any]) -> None:
        checked = await self._runtime.post(
            f"/v1/templates/{template}/validate", {"template_config": config}
        )
        assert checked["errors"] == []
        agent = {"name": f"of {template}", "template_id": template, "template_config": config}
        published = await self._runtime.publish(**agent)
        assert await self._runtime.ask(published["model"])

    async def _run(self, block: Block) -> None:
        command = [sys.executable, "-c"] if block.language == "python" else ["sh", "-euc"]
        process = await asyncio.create_subprocess_exec(
            *command,
            block.text.replace(ADDRESS, self._runtime.url).replace(
                ADDRESS.replace("http", "ws"), self._runtime.url.replace("http", "ws")
            ),
            cwd=self._folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "RUNTIME_URL": self._runtime.url,
                "OPENAI_BASE_URL": f"{self._runtime.url}/v1",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, problems = (text.decode() for text in await process.communicate())
        assert process.returncode == 0, f"{block.text}\n{out}\n{problems}"
        self._printed = out.replace(self._runtime.url, ADDRESS)


@pytest.mark.parametrize("page", [page for page in PAGES if [*blocks(page)]], ids=name_of)
async def test_what_a_page_shows_works(
    page: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, Any] = {
        "template_dirs": [tmp_path / "templates", ROOT / "examples/own_graph"]
    }
    if page.name == "deploy-postgresql.md":
        settings["database_url"] = request.getfixturevalue("fresh_postgres_url")
        settings["token"] = TOKEN
        monkeypatch.setenv("RUNTIME_TOKEN", TOKEN)
    async with serving(tmp_path, **settings) as runtime:
        reader = Reader(runtime, tmp_path)
        for block in blocks(page):
            await reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    for target in LINK.findall(prose):
        if target.startswith(("http://", "https://")):
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if heading:
            assert heading in headings(path), target
    for mentioned in PATH.findall(prose):
        assert (ROOT / mentioned).exists(), mentioned


def headings(page: Path) -> list[str]:
    """As GitHub makes them into anchors."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found]


def test_the_table_of_errors_has_every_code_with_its_status() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE
    )
    told = {code: int(status) for code, status in rows}
    raised = {
        kind.code: next(STATUS[each] for each in kind.__mro__ if each in STATUS)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DomainError) and "code" in vars(kind)
    }
    of_the_web = {
        "invalid_request": 400,
        "not_found": 404,
        "method_not_allowed": 405,
        "request_timeout": 408,
        "payload_too_large": 413,
        "uri_too_long": 414,
        "headers_too_large": 431,
        "http_version_not_supported": 505,
        "internal_error": 500,
    }
    assert len(rows) == len(told)
    assert told == raised | of_the_web
