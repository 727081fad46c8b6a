"""Prefixed, time-ordered identifiers: `agent_0192…`, the hex of a UUIDv7 (RFC 9562 §5.7)."""

import os
import time
from typing import NewType

AgentId = NewType("AgentId", str)
LineId = NewType("LineId", str)
RunId = NewType("RunId", str)
AuditId = NewType("AuditId", str)
ProjectId = NewType("ProjectId", str)
UserId = NewType("UserId", str)


def uuid7_hex() -> str:
    """48 bits of Unix milliseconds, then randomness, with version and variant bits set."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def new_agent_id() -> AgentId:
    return AgentId(f"agent_{uuid7_hex()}")


def new_line_id() -> LineId:
    return LineId(f"line_{uuid7_hex()}")


def new_run_id() -> RunId:
    return RunId(f"run_{uuid7_hex()}")


def new_audit_id() -> AuditId:
    return AuditId(f"audit_{uuid7_hex()}")
