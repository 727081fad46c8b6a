"""What a dispatcher costs, and how long a run waits for it.

`python -m tests.benchmarks.dispatchers` takes a minute.

Each of them in a process of its own, on a database of its own, with runs that do nothing.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Literal, get_args

from sqlalchemy import make_url

from runtime.domain.entities.runs import RunStatus
from runtime.domain.repositories.durable import Ticket
from runtime.domain.services.signals import RunSignals, Signal
from runtime.domain.value_objects.ids import RunId, new_run_id, new_worker_id
from runtime.infrastructure.database import create_engine, upgrade
from runtime.infrastructure.dispatch import run_dispatcher
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.liveness.beats import worker_beats
from runtime.infrastructure.liveness.heart import Heart
from runtime.infrastructure.repositories.run_queue import SqlRunQueue
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.signals import run_signals
from runtime.infrastructure.signals.payloads import notify
from runtime.infrastructure.unit_of_work.sql import sql_unit_of_work
from tests.contracts.dispatching import an_order
from tests.fakes import Published
from tests.postgres import fresh_database

RUNS, SINGLE, IDLE_S = 500, 40, 5.0
Adapter = Literal["database", "inline", "dbos"]
ADAPTERS = get_args(Adapter)


async def measured(adapter: Adapter, url: str) -> dict[str, float]:
    async with AsyncExitStack() as opened:
        engine = create_engine(url)
        opened.push_async_callback(engine.dispose)
        await upgrade(engine)
        worker = new_worker_id()
        heart, signals = Heart(worker_beats(engine), worker), run_signals(engine)
        for each in (heart, signals):
            await each.start()
            opened.push_async_callback(each.stop)
        settings = Settings.model_validate({"dispatcher": adapter})
        ground = Ground(SqlRunQueue(engine), signals, heart, worker)
        before_kb = memory_kb()
        dispatcher = run_dispatcher(settings, ground, make_url(url))
        begun: dict[RunId, float] = {}
        ended = asyncio.Semaphore(0)
        uow = partial(sql_unit_of_work, engine, Published())

        async def begin(ticket: Ticket) -> None:
            begun[ticket.id] = time.perf_counter()
            async with uow(ticket.scope) as work:
                run = await work.durable.get(ticket.id)
                over = run.ended(RunStatus.COMPLETED, datetime.now(UTC), None)
                await work.durable.finish(over, attempt=ticket.attempt)
                await work.commit()
            ended.release()

        async def order() -> tuple[RunId, float]:
            run = an_order()
            async with uow(run.scope) as work:
                await work.durable.add(run)
                await work.commit()
            at = time.perf_counter()
            await dispatcher.dispatch(run)
            return run.id, at

        await dispatcher.start(begin)
        opened.push_async_callback(dispatcher.stop)
        await order()
        await ended.acquire()
        waits = []
        for _ in range(SINGLE):
            id, at = await order()
            await ended.acquire()
            waits.append((begun[id] - at) * 1e3)
        cpu, at = time.process_time(), time.perf_counter()
        for _ in range(RUNS):
            await order()
        for _ in range(RUNS):
            await ended.acquire()
        cpu_ms = (time.process_time() - cpu) / RUNS * 1e3
        per_s = RUNS / (time.perf_counter() - at)
        await asyncio.sleep(2)
        cpu = time.process_time()
        await asyncio.sleep(IDLE_S)
        return {
            "cpu_ms_per_run": cpu_ms,
            "runs_per_s": per_s,
            "pick_up_p50_ms": statistics.median(waits),
            "idle_cpu_percent": (time.process_time() - cpu) / IDLE_S * 100,
            "memory_mb": (memory_kb() - before_kb) / 1024,
            "news_p50_ms": await news(url, signals),
        }


async def news(url: str, signals: RunSignals) -> float:
    """From the transaction of another engine to who listens on this one."""
    heard: asyncio.Queue[Signal] = asyncio.Queue()
    signals.subscribe(heard.put_nowait)
    other = create_engine(url)
    waits = []
    for _ in range(SINGLE):
        at = time.perf_counter()
        async with other.begin() as connection:
            await notify(connection, [Signal("log", new_run_id())])
        await heard.get()
        waits.append((time.perf_counter() - at) * 1e3)
    await other.dispose()
    return statistics.median(waits)


def memory_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_a_process(adapter: str, url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.dispatchers", adapter, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", nargs="?", choices=ADAPTERS)
    parser.add_argument("url", nargs="?")
    asked = parser.parse_args()
    if asked.url:
        figures = asyncio.run(measured(asked.adapter, asked.url))
        sys.stdout.write(json.dumps(figures))
        return
    for adapter in ADAPTERS:
        with tempfile.TemporaryDirectory() as folder:
            _say(adapter, "sqlite", in_a_process(adapter, f"sqlite:///{folder}/runtime.db"))
        with fresh_database() as url:
            _say(adapter, "postgresql", in_a_process(adapter, url))


def _say(adapter: str, database: str, figures: dict[str, float]) -> None:
    told = "  ".join(f"{name} {value:.1f}" for name, value in figures.items())
    sys.stdout.write(f"{adapter:9} {database:11} {told}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
