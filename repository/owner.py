"""Who runs a run: a process, told from a later one with the same number by when it started."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

SINCE_BOOT_FIELD = 19
"""The place of a process's start time in /proc/PID/stat, counted after the name, which may hold anything."""


@dataclass(frozen=True)
class Owner:
    """A process: its machine, its number, and what tells it from another that had the number before."""

    host: str
    pid: int
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine, so that `is_alive` can be known."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs on this machine."""
        return bool(self.since) and since(self.pid) == self.since


def this_process() -> Owner:
    """The process that asks."""
    return Owner(socket.gethostname(), os.getpid(), since(os.getpid()))


def since(pid: int) -> str:
    """When a process of this machine started, in words that no other process shares; empty where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _asked(pid)
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot}/{fields[SINCE_BOOT_FIELD]}"


def _asked(pid: int) -> str:
    """The start time where there is no /proc."""
    import subprocess

    told = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()
