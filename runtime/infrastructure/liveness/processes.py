"""Whether a process of this machine is still there, on Linux; elsewhere nobody knows.

A process is named `boot:namespace:pid:start`: with the boot and the namespace that its number
counts in, and its start in clock ticks, since numbers are given again.
"""

import os
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def machine() -> str:
    """Empty where processes can't be looked up."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return ""
    return f"{boot}:{namespace}:"


def this_process() -> str:
    if not machine():
        return ""
    return f"{machine()}{os.getpid()}:{_state(os.getpid())[1]}"


def has_ended(process: str) -> bool:
    """Known to have; False for a process of another machine."""
    if not machine() or not process.startswith(machine()):
        return False
    pid, _, start = process.removeprefix(machine()).partition(":")
    try:
        os.kill(int(pid), 0)
        state, started = _state(int(pid))
    except ProcessLookupError:
        return True
    except OSError:
        return False  # Another user's, which this one may not see.
    return state in "ZX" or started != start


def _state(pid: int) -> tuple[str, str]:
    """And the start. A process whose exit code nobody has asked for yet is in state Z."""
    stat = (_PROC / str(pid) / "stat").read_text()
    # The name, in parentheses, may have anything in it (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]
