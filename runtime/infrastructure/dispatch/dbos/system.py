"""DBOS Transact as this process uses it: one queue, whose only workflow begins a run.

It has one instance in a process, and blocks: everything here is called from threads.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from dbos import DBOS, DBOSConfig, EnqueueOptions
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from runtime.domain.value_objects.ids import WorkerId
from runtime.infrastructure.database import prepare_file

QUEUE = "agent-runtime-runs"
POLL_S = 0.25
POOL = 8
KEPT_S = 3_600
"""How long it is on record that a run was brought."""
AT_ONCE = 500
_WORKFLOW = "begin-a-run"
_VERSION = "1"
"""Of what is on the queue, not of this release: replicas of two releases share it. By itself DBOS
makes it from the code, and leaves what another version has queued alone."""


class System:
    def __init__(self, url: URL, worker: WorkerId, most: int, begin: Callable[[], None]) -> None:
        """`begin` is called in a thread for whatever is taken from the queue, at most as often
        at once as `most` says."""
        self._url = url
        self._worker = worker
        self._most = most
        self._begin = begin
        self._engine: Engine | None = None

    def launch(self) -> None:
        """Makes its tables where they are missing."""
        if self._url.get_backend_name() == "sqlite":
            self._engine = _sqlite_engine(_beside(self._url))
        DBOS(config=self._config())
        _log_as_others_do()
        begin = self._begin

        @DBOS.workflow(name=_WORKFLOW)
        def place() -> None:
            begin()

        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._most,
            polling_interval_sec=POLL_S,
            on_conflict="always_update",
        )

    def enqueue(self, key: str, delay_s: float) -> None:
        """What is on the queue with that key, or was taken from it and has not ended, is not put
        there again."""
        options: EnqueueOptions = {
            "workflow_name": _WORKFLOW,
            "queue_name": QUEUE,
            "app_version": _VERSION,
            "deduplication_id": key,
            "duplication_policy": "return-existing",
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        DBOS.enqueue_workflow_with_options(options)

    def prune(self) -> None:
        before = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - KEPT_S))
        ended = DBOS.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            queue_name=QUEUE,
            end_time=before,
            limit=AT_ONCE,
            load_input=False,
            load_output=False,
        )
        if ended:
            DBOS.delete_workflows([each.workflow_id for each in ended])

    def destroy(self, wait_s: int) -> None:
        """What has been begun may take so long to be noted as ended."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=wait_s)
        if self._engine is not None:
            self._engine.dispose()

    def _config(self) -> DBOSConfig:
        config: DBOSConfig = {
            "name": "agent-runtime",
            "application_version": _VERSION,
            # Of this process alone: by itself DBOS would take up what any other one has begun.
            "executor_id": self._worker,
            "sys_db_pool_size": POOL,
            "max_executor_threads": self._most + POOL,
            "log_level": "WARNING",
            "enable_otlp": False,
            # Nothing here waits for its notifications or schedules.
            "use_listen_notify": False,
            "scheduler_polling_interval_sec": 3_600.0,
        }
        if self._engine is not None:
            url = self._engine.url
            config["system_database_engine"] = self._engine
        else:
            url = self._url.set(drivername="postgresql")
        config["system_database_url"] = url.render_as_string(hide_password=False)
        return config


def _beside(url: URL) -> Path:
    """A file of its own: a SQLite file has one writer, and DBOS writes for every look at its
    queue. Nothing in it is missed when it is gone."""
    path = Path(url.database or "")
    return path.with_name(f"{path.stem}-dbos{path.suffix}")


def _sqlite_engine(path: Path) -> Engine:
    prepare_file(path)
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": "IMMEDIATE", "timeout": 30},
        pool_size=POOL,
    )
    event.listen(engine, "connect", _set_up)
    return engine


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
    if sqlite3.sqlite_version_info < (3, 42):
        add_unixepoch(connection)


def add_unixepoch(connection: object) -> None:
    """Of the calls that SQLite 3.42 understands, the one that DBOS makes: `('subsec')`."""
    connection.create_function("unixepoch", 1, _unixepoch)  # type: ignore[attr-defined]


def _unixepoch(_: str) -> float:
    return time.time()


def _log_as_others_do() -> None:
    """Not on a handler and in a format of its own."""
    logger = logging.getLogger("dbos")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
