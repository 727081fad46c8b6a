"""The `agent-runtime` command, looked at while it works.

SIGUSR1 begins, SIGUSR2 ends and writes the `Profile` to the file that `PROFILE_OUTPUT` names. The
samples are of the main thread, by CPU time, and cost about one percent; work of C code counts for
the Python function that called it, or the next one that runs.
"""

import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

INTERVAL_S = 0.001
"""The kernel may round it up to its own tick."""
OUTPUT = "PROFILE_OUTPUT"


@dataclass
class Profile:
    """Samples by function, named `file:line function`: where it was on top, and anywhere."""

    samples: int = 0
    own: Counter[str] = field(default_factory=Counter)
    cumulative: Counter[str] = field(default_factory=Counter)

    def take(self, frame: FrameType | None) -> None:
        self.samples += 1
        names = []
        while frame:
            code = frame.f_code
            names.append(f"{code.co_filename}:{code.co_firstlineno} {code.co_name}")
            frame = frame.f_back
        self.own[names[0]] += 1
        self.cumulative.update(set(names))

    @classmethod
    def read(cls, path: Path) -> "Profile":
        stored: dict[str, Any] = orjson.loads(path.read_bytes())
        return cls(stored["samples"], Counter(stored["own"]), Counter(stored["cumulative"]))


def install(output: Path) -> None:
    profile = Profile()

    def begin(_: int, __: FrameType | None) -> None:
        nonlocal profile
        profile = Profile()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def end(_: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        part = output.with_suffix(".part")
        part.write_bytes(orjson.dumps(vars(profile)))
        part.replace(output)

    def sample(_: int, frame: FrameType | None) -> None:
        profile.take(frame)

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if __name__ == "__main__":
    from runtime.cli.main import main

    install(Path(os.environ[OUTPUT]))
    main()
