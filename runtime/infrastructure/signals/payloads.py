"""Signals as they travel: `sender;l:run_…;q:run_…`."""

import secrets
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.domain.services.signals import Signal, SignalKind
from runtime.domain.value_objects.ids import RunId
from runtime.infrastructure.database import refusals

CHANNEL = "agent_runtime"
MOST_BYTES = 7_900
"""PostgreSQL takes less than 8,000."""
KEPT = 1_000
"""Rows of `run_signals`: who is further behind looks at everything."""
_LETTERS: dict[SignalKind, str] = {"log": "l", "queue": "q", "control": "c"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_senders: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()

NOTIFY = f"SELECT pg_notify('{CHANNEL}', :payload)"
INSERT = "INSERT INTO run_signals (sender, payload) VALUES (:sender, :payload)"
PRUNE = "DELETE FROM run_signals WHERE id <= (SELECT max(id) FROM run_signals) - :kept"


def sender_of(engine: AsyncEngine) -> str:
    """Whoever writes through it hears of that without a signal: see `RunSignals.tell`."""
    return _sender(engine.sync_engine)


def _sender(engine: Engine) -> str:
    if engine not in _senders:
        _senders[engine] = secrets.token_hex(4)
    return _senders[engine]


async def notify(connection: AsyncConnection, signals: Sequence[Signal]) -> None:
    """To be sent to other processes with this transaction, and only if it is committed."""
    sender = _sender(connection.sync_connection.engine)  # type: ignore[union-attr] # it is open
    with refusals():
        for sql, values in statements(connection.dialect.name, sender, signals):
            await connection.execute(text(sql), values)


def statements(
    dialect: str, sender: str, signals: Sequence[Signal]
) -> Iterator[tuple[str, dict[str, object]]]:
    """The same for who has a connection of the driver: SQL with `:named` values."""
    for payload in payloads(sender, signals):
        if dialect == "postgresql":
            yield NOTIFY, {"payload": payload}
        else:
            yield INSERT, {"sender": sender, "payload": payload}
            if secrets.randbelow(KEPT // 4) == 0:
                yield PRUNE, {"kept": KEPT}


def payloads(sender: str, signals: Sequence[Signal]) -> Iterator[str]:
    """As few as there can be, each signal once."""
    words = dict.fromkeys(f";{_LETTERS[each.kind]}:{each.run}" for each in signals)
    payload = sender
    for word in words:
        if len(payload) + len(word) > MOST_BYTES:
            yield payload
            payload = sender
        payload += word
    if words:
        yield payload


def read(payload: str, me: str) -> Iterator[Signal]:
    """Nothing of what this process sent itself, nor of what a newer one says."""
    sender, *words = payload.split(";")
    if sender == me:
        return
    for word in words:
        letter, _, run = word.partition(":")
        if letter in _KINDS:
            yield Signal(_KINDS[letter], RunId(run))
