"""Prefixed, time-ordered identifiers: `agent_0192…`, the hex of a UUIDv7 (RFC 9562 §5.7)."""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import NewType

AgentId = NewType("AgentId", str)
LineId = NewType("LineId", str)
RunId = NewType("RunId", str)
AuditId = NewType("AuditId", str)
KeyId = NewType("KeyId", str)
SessionId = NewType("SessionId", str)
ItemId = NewType("ItemId", str)
ResponseId = NewType("ResponseId", str)
CompletionId = NewType("CompletionId", str)
ProviderId = NewType("ProviderId", str)
ApprovalId = NewType("ApprovalId", str)
ScheduleId = NewType("ScheduleId", str)
WebhookId = NewType("WebhookId", str)
WorkerId = NewType("WorkerId", str)
MemoryId = NewType("MemoryId", str)
ProjectId = NewType("ProjectId", str)
UserId = NewType("UserId", str)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_last = (0, 0)


def uuid7_hex() -> str:
    """48 bits of Unix milliseconds, then 74 of randomness, with version and variant between.

    Ids of one process are in order even within a millisecond (RFC 9562 §6.2, method 2).
    """
    global _last
    now_ms, random = time.time_ns() // 1_000_000, secrets.randbits(73)
    if now_ms <= _last[0]:
        now_ms, random = _last[0], _last[1] + 1 + secrets.randbits(32)
    _last = (now_ms, random)
    return _uuid7(now_ms, random)


def uuid7_of(at: datetime, bits: int) -> str:
    """The one with that time and the last 74 of these bits."""
    return _uuid7((at - _EPOCH) // timedelta(milliseconds=1), bits & (1 << 74) - 1)


def _uuid7(unix_ms: int, random: int) -> str:
    high, low = random >> 62, random & (1 << 62) - 1
    return f"{unix_ms << 80 | 0x7 << 76 | high << 64 | 0x2 << 62 | low:032x}"


def new_agent_id() -> AgentId:
    return AgentId(f"agent_{uuid7_hex()}")


def new_line_id() -> LineId:
    return LineId(f"line_{uuid7_hex()}")


def new_run_id() -> RunId:
    return RunId(f"run_{uuid7_hex()}")


def new_key_id() -> KeyId:
    return KeyId(f"key_{uuid7_hex()}")


def new_audit_id() -> AuditId:
    return AuditId(f"audit_{uuid7_hex()}")


def new_session_id() -> SessionId:
    """As OpenAI names a conversation."""
    return SessionId(f"conv_{uuid7_hex()}")


def new_item_id(prefix: str) -> ItemId:
    """`msg`, `fc`, `fco`, `rs` or `mcp`, as OpenAI names the kinds of items."""
    return ItemId(f"{prefix}_{uuid7_hex()}")


def new_approval_id() -> ApprovalId:
    return ApprovalId(f"appr_{uuid7_hex()}")


def new_schedule_id() -> ScheduleId:
    return ScheduleId(f"sched_{uuid7_hex()}")


def new_webhook_id() -> WebhookId:
    return WebhookId(f"wh_{uuid7_hex()}")


def new_worker_id() -> WorkerId:
    return WorkerId(f"worker_{uuid7_hex()}")


def new_memory_id() -> MemoryId:
    return MemoryId(f"mem_{uuid7_hex()}")


def completion_id(run: RunId) -> CompletionId:
    """Of the answer whose first choice is the run."""
    return CompletionId(f"chatcmpl-{run.removeprefix('run_')}")


def first_run_id(at: datetime) -> RunId:
    """No id of a run that was made before is as large, none that is made later is smaller."""
    return RunId(f"run_{uuid7_of(at, 0)}")


def made_at(id: str) -> datetime:
    """When an id of ours was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=int(id[-32:-20], 16))
