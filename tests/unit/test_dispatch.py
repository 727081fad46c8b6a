import sqlite3
import sys

import pytest
from sqlalchemy import make_url

from runtime.domain.errors import InvalidValue
from runtime.domain.services.signals import Signal
from runtime.domain.value_objects.ids import RunId, new_run_id, new_worker_id
from runtime.infrastructure.backoff import Backoff
from runtime.infrastructure.dispatch import run_dispatcher
from runtime.infrastructure.dispatch.dbos.system import add_unixepoch
from runtime.infrastructure.dispatch.ground import Ground
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.signals.local import LocalSignals
from runtime.infrastructure.signals.payloads import payloads, read
from tests.fakes import MemoryStore
from tests.fakes_durable import MemoryRunQueue, SteadyHeart


def test_without_its_extra_dbos_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if ".dispatch.dbos." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dbos", None)
    ground = Ground(MemoryRunQueue(MemoryStore()), LocalSignals(), SteadyHeart(), new_worker_id())

    with pytest.raises(InvalidValue, match=r"agent-runtime\[dbos\]"):
        run_dispatcher(Settings(dispatcher="dbos"), ground, make_url("sqlite:///x.db"))


def test_an_old_sqlite_is_taught_the_call_that_dbos_makes() -> None:
    connection = sqlite3.connect(":memory:")
    add_unixepoch(connection)

    (now,) = connection.execute("SELECT unixepoch('subsec') * 1000").fetchone()
    connection.close()
    assert isinstance(now, float)


def test_a_back_off_grows_to_its_bound_and_begins_again() -> None:
    backoff = Backoff(first_s=0.1, most_s=1.0)
    waits = [backoff.next_s() for _ in range(60)]

    assert 0.05 <= waits[0] <= 0.1
    assert all(0.5 <= wait <= 1 for wait in waits[5:])
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_a_payload_is_never_larger_than_postgresql_takes() -> None:
    signals = [Signal("log", new_run_id()) for _ in range(1_000)]
    made = list(payloads("me", signals))

    assert max(len(payload) for payload in made) < 8_000
    assert [signal for payload in made for signal in read(payload, "you")] == signals
    assert [signal for payload in made for signal in read(payload, "me")] == []
    assert list(payloads("me", [])) == []


def test_what_a_newer_process_says_is_passed_over() -> None:
    heard = list(read("you;z:run_1;q:run_2", "me"))

    assert heard == [Signal("queue", RunId("run_2"))]
