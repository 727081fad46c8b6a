"""One seed, one database: a fleet under load, the plan carried out, and what then has to hold."""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.chaos.cluster import Cluster, cluster
from tests.chaos.drive import ONCE, REPEATABLE, Load
from tests.chaos.fleet import Fleet, Replica, fleet
from tests.chaos.invariants import broken, intact
from tests.chaos.model import errands
from tests.chaos.plan import Database, Fault, plan
from tests.chaos.proxy import FaultProxy
from tests.chaos.toolserver import ToolServer
from tests.postgres import fresh_database
from tests.upstream import FakeUpstream

CALLERS = 5
REPLICAS: dict[Database, int] = {"sqlite": 1, "postgres": 3}
ENDS_WITHIN_S = 60
"""From the last fault to the end of the last run."""
GRACE_S = 2
STOPS_WITHIN_S = 20
TEMPLATES = Path(__file__).parent / "templates"


@dataclass
class Report:
    """What happened in an episode."""

    seed: int
    database: Database
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    uncaught: list[str] = field(default_factory=list)
    """Stack traces in logs. Not wrong as such, but worth a look."""


async def episode(seed: int, database: Database, kills: int, folder: Path) -> Report:
    """Raises nothing for what goes wrong in the runtime: the report has it."""
    report = Report(seed, database)
    since = monotonic()
    async with AsyncExitStack() as opened:
        tools = await opened.enter_async_context(ToolServer())
        upstream = await opened.enter_async_context(FakeUpstream())
        upstream.outage = errands
        server = await opened.enter_async_context(_server(database))
        proxies = [await opened.enter_async_context(each) for each in server.proxies()]
        urls = server.urls(folder, proxies)
        variables = _variables(upstream, tools)
        replicas = await opened.enter_async_context(fleet(folder, variables, urls))
        load = Load(replicas, tools, seed)
        opened.push_async_callback(load.close)
        await _agents(load)
        run = _Episode(report, replicas, load, server)
        await run.carry_out(plan(seed, database, kills=kills, replicas=len(urls)))
        try:
            report.problems += await broken(load, tools)
        except AssertionError as unwell:
            report.problems.append(str(unwell))
        report.problems += [f"{times} times: {what}" for what, times in load.violations.items()]
        await run.end(folder)
        report.counts += _counted(load, tools, proxies)
        report.uncaught = [each for one in replicas.replicas for each in one.uncaught]
    report.seconds = monotonic() - since
    return report


class _Episode:
    def __init__(self, report: Report, fleet: Fleet, load: Load, server: "_Server") -> None:
        self._report = report
        self._fleet = fleet
        self._load = load
        self._server = server
        self._going_on: set[asyncio.Task[None]] = set()

    async def carry_out(self, faults: list[Fault]) -> None:
        """Every run that was ordered meanwhile has ended, or is reported, when it returns."""
        callers = [asyncio.create_task(self._load.caller()) for _ in range(CALLERS)]
        operator = asyncio.create_task(self._load.operator())
        try:
            for fault in faults:
                await asyncio.sleep(fault.after_s)
                await self._begin(fault)
            await asyncio.gather(*self._going_on)
            self._load.enough = True
            _, late = await asyncio.wait(callers, timeout=ENDS_WITHIN_S)
            for order in (each for each in self._load.orders if late and not each.ended):
                self._report.problems.append(f"has not ended: {order}")
            for done in callers:
                if done not in late:
                    done.result()
        finally:
            for task in (*callers, operator, *self._going_on):
                task.cancel()
            ended = await asyncio.gather(operator, return_exceptions=True)
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _begin(self, fault: Fault) -> None:
        replica = await self._serving(fault.target)
        self._report.faults[fault.kind] += 1
        task = asyncio.create_task(self._one(fault, replica))
        self._going_on.add(task)
        if len(self._fleet.replicas) == 1:
            await task

    async def _serving(self, target: int) -> Replica:
        """Waits for most of them: what is not there can't fail."""
        replicas = self._fleet.replicas
        async with asyncio.timeout(60):
            while True:
                in_turn = (*replicas[target:], *replicas[:target])
                there = [each for each in in_turn if each.serving and not each.leaving]
                if len(there) > len(replicas) // 2:
                    return there[0]
                for task in self._going_on:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    def _one(self, fault: Fault, replica: Replica) -> Coroutine[Any, Any, None]:
        match fault.kind:
            case "kill":
                return self._kill(fault, replica)
            case "term":
                return self._term(fault, replica)
            case "stop":
                return self._stop(fault, replica)
            case "disk":
                return self._disk(fault, replica)
            case "restart":
                return self._server.restart(fault)
            case _:
                assert replica.proxy
                return self._wire(fault, replica.proxy)

    async def _kill(self, fault: Fault, replica: Replica) -> None:
        await replica.kill()
        await asyncio.sleep(fault.lasts_s)
        await self._start(replica)

    async def _term(self, fault: Fault, replica: Replica) -> None:
        ending = asyncio.create_task(replica.term(STOPS_WITHIN_S))
        if fault.harsh:
            await asyncio.wait([ending], timeout=fault.lasts_s)
            if not ending.done():
                await replica.kill()
                self._report.faults["kill"] += 1
        code = await ending
        if code not in ((0, -signal.SIGKILL) if fault.harsh else (0,)):
            self._report.problems.append(f"exit code {code}:\n{replica.last_lines()}")
        await self._start(replica, cold=True)

    async def _start(self, replica: Replica, *, cold: bool = False) -> None:
        """It gives up when it finds no database; whoever started it starts it again."""
        for _ in range(20):
            await replica.start(cold=cold)
            if replica.url:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"it does not start:\n{replica.last_lines()}")

    async def _stop(self, fault: Fault, replica: Replica) -> None:
        pid = replica.pid
        self._fleet.disturb()
        try:
            replica.stop()
            await asyncio.sleep(fault.lasts_s)
            if replica.pid == pid and replica.alive:
                replica.go_on()
        finally:
            self._fleet.calm()

    async def _disk(self, fault: Fault, replica: Replica) -> None:
        replica.fill_disk(fault.count)
        await asyncio.sleep(fault.lasts_s)
        if replica.alive:
            replica.free_disk()

    async def _wire(self, fault: Fault, proxy: FaultProxy) -> None:
        match fault.kind:
            case "lose":
                proxy.lose_commits(fault.count)
            case "cut":
                proxy.cut()
            case "delay":
                proxy.delay_s = 0.03
                await asyncio.sleep(fault.lasts_s)
                proxy.delay_s = 0.0
            case _:
                self._fleet.disturb()
                proxy.freeze()
                await asyncio.sleep(fault.lasts_s)
                if fault.harsh:
                    proxy.cut()
                proxy.thaw()
                self._fleet.calm()

    async def end(self, folder: Path) -> None:
        """Everybody stops in good order, and the database is whole."""
        codes = await asyncio.gather(
            *(each.term(STOPS_WITHIN_S) for each in self._fleet.replicas if each.alive)
        )
        if any(codes):
            self._report.problems.append(f"exit codes {codes}")
        file = folder / "runtime.db"
        if self._report.database == "sqlite" and (said := intact(file)) != "ok":
            kept = shutil.copy(file, folder / "broken.db")
            self._report.problems.append(f"the database is not intact: {said}; see {kept}")


class _Server:
    """What the replicas keep their runs in."""

    def __init__(self, database: Database, address: str, own: Cluster | None) -> None:
        self._database = database
        self._address = address
        self._own = own
        self._proxies: list[FaultProxy] = []

    def proxies(self) -> list[FaultProxy]:
        if self._database == "postgres":
            url = make_url(self._address)
            self._proxies = [
                FaultProxy(url.host or "127.0.0.1", url.port or 5432)
                for _ in range(REPLICAS["postgres"])
            ]
        return self._proxies

    def urls(self, folder: Path, proxies: list[FaultProxy]) -> list[tuple[str, FaultProxy | None]]:
        if self._database == "sqlite":
            return [(f"sqlite:///{folder}/runtime.db", None)]
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        url = make_url(self._address).update_query_dict(plain)
        return [
            (url.set(host="127.0.0.1", port=each.port).render_as_string(False), each)
            for each in proxies
        ]

    async def restart(self, fault: Fault) -> None:
        """Where the server is everybody's, it is as good as gone for those behind the proxies."""
        if self._own:
            await self._own.stop(crash=fault.harsh)
            await asyncio.sleep(fault.lasts_s)
            await self._own.start()
            return
        for proxy in self._proxies:
            proxy.refusing = True
            proxy.cut()
        await asyncio.to_thread(self._disconnect)
        await asyncio.sleep(fault.lasts_s)
        for proxy in self._proxies:
            proxy.refusing = False

    def _disconnect(self) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@asynccontextmanager
async def _server(database: Database) -> AsyncIterator[_Server]:
    if database == "sqlite":
        yield _Server(database, "", None)
        return
    async with cluster() as own:
        if own:
            yield _Server(database, own.url, own)
        else:
            with fresh_database() as url:
                yield _Server(database, url, None)


def _variables(upstream: FakeUpstream, tools: ToolServer) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": upstream.base_url,
        "OPENAI_API_KEY": "sk-test",
        "CHAOS_TOOLS_URL": tools.url,
        "RUNTIME_TEMPLATE_DIRS": str(TEMPLATES),
        "RUNTIME_SECRET_KEY": "a-key-that-all-replicas-have",
        "RUNTIME_LOG_LEVEL": "WARNING",
        "RUNTIME_GRACE_S": str(GRACE_S),
        "RUNTIME_IDEMPOTENCY_LEASE_S": "2",
    }


async def _agents(load: Load) -> None:
    tools = [ONCE, REPEATABLE]
    for body in (
        {"name": "Errands", "template_id": "react-agent", "template_config": {"tools": tools}},
        {"name": "Branches", "template_id": "branches"},
    ):
        made = await load.ask("POST", "/v1/agents", json={**body, "status": "published"})
        assert made, list(load.violations)


def _counted(load: Load, tools: ToolServer, proxies: list[FaultProxy]) -> Counter[str]:
    orders = load.orders
    runs = [each for each in orders if not each.response_id]
    resumed = sum(e["type"] == "run.resumed" for each in runs for e in each.events)
    return Counter(
        {
            "runs": len(orders),
            "of these as responses": len(orders) - len(runs),
            "connections of readers": sum(each.connections for each in orders),
            "attempts beyond the first": resumed,
            "tool calls": sum(tools.done.values()),
            "outcomes unknown": load.decisions.total(),
            "of these had been made": load.decisions["was made"],
            "answers to commits lost": sum(each.lost_commits for each in proxies),
            "refusals (503, 409)": load.counts.total(),
        }
    )
