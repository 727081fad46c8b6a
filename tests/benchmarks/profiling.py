"""Where the CPU time of (d) goes: `python -m tests.benchmarks.profiling`."""

import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

from tests.benchmarks import servers
from tests.benchmarks.load import REPOSITORY, Generator
from tests.benchmarks.profiled import OUTPUT, Profile
from tests.benchmarks.servers import Server
from tests.benchmarks.suite import Case, Sample

CASES = (
    Case(key="not streaming, 32 connections", connections=32, stream=False, seconds=8),
    Case(key="50 streams of 64 tokens at full speed", connections=50, stream=True, seconds=8),
    Case(
        key="50 streams of 64 tokens, one every 20 ms",
        connections=50,
        stream=True,
        seconds=8,
        delay_ms=20,
    ),
)
SHOWN = 40
_EVERYWHERE = 0.95
_PATIENCE_S = 10


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="profile-") as name, Generator() as load:
        folder = Path(name)
        with (
            servers.running(servers.upstream(), folder) as provider,
            sampled_product(provider, folder) as (server, output),
        ):
            for case in CASES:
                load.run(replace(case, seconds=0.5, delay_ms=0).job(server))
                sys.stdout.write(shown(case, *profiled(server, load, case, output)))


@contextmanager
def sampled_product(provider: Server, folder: Path) -> Iterator[tuple[Server, Path]]:
    """The running product, and the file that its profiles are written to."""
    target = servers.product(provider.url, folder / "data")
    with servers.running(servers.without_credential(target), folder) as server:
        servers.publish_agents(server)
    output = folder / "profile.json"
    sampled = replace(
        target,
        command=[sys.executable, "-m", "tests.benchmarks.profiled", *target.command[1:]],
        env={**target.env, OUTPUT: str(output)},
    )
    with servers.running(sampled, folder) as server:
        yield server, output


def profiled(server: Server, load: Generator, case: Case, output: Path) -> tuple[Sample, Profile]:
    output.unlink(missing_ok=True)
    before_s = server.cpu_s()
    server.signal(signal.SIGUSR1)
    result = load.run(case.job(server))
    server.signal(signal.SIGUSR2)
    until = monotonic() + _PATIENCE_S
    while not output.exists():
        if monotonic() > until:
            raise RuntimeError("the server wrote no profile")
        sleep(0.05)
    return Sample(result, server.cpu_s() - before_s), Profile.read(output)


def shown(case: Case, sample: Sample, profile: Profile) -> str:
    """Samples as milliseconds of one answer."""
    scale = sample.cpu_ms_per_answer / max(1, profile.samples)
    packages: Counter[str] = Counter()
    for name, count in profile.own.items():
        packages[package_of(name)] += count
    tables = (
        ("by package", packages),
        ("by function, own time", profile.own),
        ("by function, with what it calls", Counter(_inner(profile))),
    )
    lines = [
        f"{case.key}: {sample.cpu_ms_per_answer:.2f} ms CPU an answer, "
        f"{sample.answers_per_s:.0f} answers/s, {profile.samples} samples, "
        f"{sample.result.errors} errors"
    ]
    for title, counts in tables:
        lines += ["", f"  {title}: ms an answer, share"]
        lines += [
            f"  {count * scale:8.3f}  {count / max(1, profile.samples):6.1%}  {_short(name)}"
            for name, count in counts.most_common(SHOWN)
        ]
    return "\n".join(lines) + "\n\n"


def _inner(profile: Profile) -> dict[str, int]:
    """Without the frames that everything runs in."""
    everywhere = profile.samples * _EVERYWHERE
    return {name: count for name, count in profile.cumulative.items() if count < everywhere}


def package_of(name: str) -> str:
    """Ours to two levels, a library's name, or the standard library's module."""
    parts = Path(_short(name).partition(":")[0]).parts
    if parts[0] == "runtime":
        return "/".join(parts[:3])
    return parts[0].removesuffix(".py")


def _short(name: str) -> str:
    """Without the folders in front of a package."""
    for mark in ("/site-packages/", f"{REPOSITORY}/"):
        if mark in name:
            return name.rpartition(mark)[2]
    path, colon, rest = name.partition(":")
    parts = Path(path).parts
    starts = [index for index, part in enumerate(parts) if part.startswith("python3.")]
    return "/".join(parts[starts[-1] + 1 :]) + colon + rest if starts else name


if __name__ == "__main__":
    main()
