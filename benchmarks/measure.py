"""Times two ways of doing the same in turn, as whole processes or as calls, and prints the ratio pair by pair."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timed:
    """One run: wall seconds, CPU seconds of the process and its children, peak resident bytes of the largest."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def process(command: Sequence[str], cwd: str | None = None, env: dict[str, str] | None = None) -> Timed:
    """Runs a command to its end; it must succeed."""
    started = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{said.decode()[-4000:]}")
    return Timed(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def call(function: Callable[[], object]) -> Timed:
    """Times a call in this process."""
    started, cpu = time.perf_counter(), time.process_time()
    function()
    return Timed(time.perf_counter() - started, time.process_time() - cpu, 0)


def pairs(name: str, goal: float, ours: Callable[[], Timed], limit: Callable[[], Timed], runs: int) -> float:
    """Runs both in turn, once unmeasured and then `runs` times; prints and gives the median ratio of wall time."""
    ours(), limit()
    measured = [(ours(), limit()) for _ in range(runs)]
    ratios = sorted(mine.seconds / theirs.seconds for mine, theirs in measured)
    mine, theirs = zip(*measured, strict=True)
    print(
        f"{name:<46} {statistics.median(ratios):5.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}), goal {goal:g}"
        f" | ours {_told(mine)} | limit {_told(theirs)}",
        flush=True,
    )
    return statistics.median(ratios)


def _told(runs: Sequence[Timed]) -> str:
    seconds = statistics.median(run.seconds for run in runs)
    cpu = statistics.median(run.cpu_seconds for run in runs)
    peak = max(run.peak_bytes for run in runs)
    return f"{seconds:.3f} s, cpu {cpu:.2f} s" + (f", peak {peak / (1 << 20):.0f} MiB" if peak else "")


def machine() -> str:
    """What this was measured on, in a line."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{len(names)} x {names[0] if names else 'unknown'}, {memory:.0f} GiB, Python {sys.version.split()[0]}"
