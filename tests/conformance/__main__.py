import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.conformance.environments import Environment, Unavailable
from tests.conformance.features import FEATURES, GROUPS
from tests.conformance.page import Column, checked, page
from tests.conformance.servers import as_first_started, with_credentials
from tests.conformance.suite import CLIENTS, STANDARD, Client, Server, run, run_page
from tests.pages import ROOT

PAGE = ROOT / "docs" / "compatibility.md"
IN_CI = os.environ.get("CI") == "true"
AT_ONCE = 2


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def available(clients: Sequence[Client]) -> list[Client]:
    """Those whose environment is there or can be made."""
    lacking: set[Environment] = set()
    for environment in dict.fromkeys(client.environment for client in clients):
        try:
            await environment.make()
        except Unavailable as error:
            lacking.add(environment)
            names = [client.name for client in clients if client.environment == environment]
            say(f"skipped: {', '.join(names)}\n{error}")
    return [client for client in clients if client.environment not in lacking]


async def tried(client: Client, closed: Server, fresh: Server, only: Sequence[str]) -> Column:
    began = monotonic()
    scripted = [name for name in only if name != "page"]
    outcomes = await run(client, closed, scripted) if scripted or not only else {}
    if client in CLIENTS and (not only or "page" in only):
        outcomes["page"] = await run_page(client, fresh)
    rows = list(FEATURES) if client in CLIENTS else list(outcomes)
    column = Column(client.title, client.versions, checked(only or rows, outcomes))
    wrong = column.failures()
    say(f"{client.name}: {len(outcomes)} told, {len(wrong)} failed, {monotonic() - began:.1f} s")
    for name, reason in wrong.items():
        say(f"--- {client.name}: {name}\n{reason.rstrip()}")
    return column


async def columns(clients: Sequence[Client], only: dict[str, list[str]]) -> dict[Client, Column]:
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        one, other = (Path(stack.enter_context(TemporaryDirectory())) for _ in range(2))
        closed = await stack.enter_async_context(with_credentials(one))
        fresh = await stack.enter_async_context(as_first_started(other))

        async def each(client: Client) -> Column:
            async with gate:
                return await tried(client, closed, fresh, only.get(client.name, []))

        found = await asyncio.gather(*map(each, clients))
    return dict(zip(clients, found, strict=True))


async def main(arguments: Sequence[str]) -> int:
    only: dict[str, list[str]] = {}
    for argument in arguments:
        name, _, feature = argument.partition(":")
        only.setdefault(name, []).extend([feature] if feature else [])
    wanted = [each for each in (*CLIENTS, *STANDARD) if not only or each.name in only]
    if unknown := only.keys() - {client.name for client in wanted}:
        say(f"there is no client named {', '.join(sorted(unknown))}")
        return 2
    there = await available(wanted)
    found = await columns(there, only)
    wrong = any(column.failures() for column in found.values())
    if there != wanted:
        say("the page stays as it is: not every client was there")
        return int(wrong or IN_CI)
    if not only:
        wrong |= not kept(found)
    return int(wrong)


def kept(found: dict[Client, Column]) -> bool:
    """Writes the page; where nobody would commit it, whether it is already what was found."""
    text = page(
        GROUPS, [found[client] for client in CLIENTS], [found[client] for client in STANDARD]
    )
    if not IN_CI:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        say(f"{PAGE.relative_to(ROOT)} is not what was found; run `make conformance`, commit it")
        return False
    return True


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
