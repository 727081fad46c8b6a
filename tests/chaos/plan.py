"""Which faults happen, to whom and when: all from one number."""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["kill", "term", "stop", "disk", "restart", "lose", "cut", "delay", "freeze"]
Database = Literal["sqlite", "postgres"]

LEASE_S = 3.0
"""How long a process may be silent before its runs are taken from it."""
FAULTS: dict[Kind, str] = {
    "kill": "SIGKILL of one process",
    "term": "SIGTERM of one process, started again once it has ended",
    "stop": "SIGSTOP of one process for longer than its lease, then SIGCONT",
    "disk": "no file of the process can grow: the disk is full for a while",
    "restart": "PostgreSQL stops or crashes, and starts again",
    "lose": "answers to commits of one process are lost, their connections with them",
    "cut": "all connections of one process to PostgreSQL are reset",
    "delay": "everything between one process and PostgreSQL takes longer",
    "freeze": "nothing passes between one process and PostgreSQL for a while",
}
WEIGHTS: dict[Database, dict[Kind, int]] = {
    "sqlite": {"term": 2, "stop": 1, "disk": 4},
    "postgres": {"term": 2, "stop": 2, "restart": 2, "lose": 8, "cut": 3, "delay": 2, "freeze": 2},
}
"""Beside the kills, which are counted."""


@dataclass(frozen=True)
class Fault:
    kind: Kind
    after_s: float
    """Since the one before it."""
    target: int
    """A replica, or the next one that serves."""
    lasts_s: float = 0.0
    harsh: bool = False
    """A crash of PostgreSQL, a reset at the end of a freeze, a kill before the end of a drain."""
    count: int = 0
    """Of answers that are lost, or of bytes that the disk has room for."""


def plan(
    seed: int, database: Database, *, kills: int, replicas: int, others: float = 0.4
) -> list[Fault]:
    """`others`: faults beside each kill. Every kind of them is there once at least."""
    chance = random.Random(seed)
    weights = WEIGHTS[database]
    count = max(round(kills * others), len(weights))
    more = list(weights) + chance.choices(list(weights), list(weights.values()), k=count)
    each: list[Kind] = ["kill"]
    kinds = each * kills + more[:count]
    chance.shuffle(kinds)
    return [_fault(kind, chance, replicas) for kind in kinds]


def _fault(kind: Kind, chance: random.Random, replicas: int) -> Fault:
    lasts_s: dict[Kind, tuple[float, float]] = {
        "kill": (0.0, 0.2),
        "term": (0.05, 1.0),
        "stop": (LEASE_S + 0.5, LEASE_S + 2),
        "disk": (0.3, 2.0),
        "restart": (0.1, 1.5),
        "delay": (0.5, 2.0),
        "freeze": (0.5, LEASE_S + 2),
    }
    count: dict[Kind, tuple[int, int]] = {"lose": (1, 4), "disk": (0, 2_000_000)}
    return Fault(
        kind,
        after_s=chance.uniform(0.1, 0.9),
        target=chance.randrange(replicas),
        lasts_s=chance.uniform(*lasts_s.get(kind, (0.0, 0.0))),
        harsh=chance.random() < 0.5,
        count=chance.randint(*count.get(kind, (0, 0))),
    )
