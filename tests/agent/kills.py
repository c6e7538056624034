"""Runs that kill themselves at a chosen moment, in processes forked from one that has everything imported."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([
    "tests.agent.kills", "agent.runs", "adapters.postgres.reading", "psycopg", "asyncpg", "transforms.aggregate",
    "pipelines.sql.expressions", "alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite", "numpy.ma",
])  # fmt: skip
"""What every run imports: half of the time of a child that imports it itself."""


def killed_at(folder: Path, flow: str, place: str, when: str, number: int) -> bool:
    """Runs a flow until a function is called for the `number`th time.

    Args:
        place: The function, as `module:Class.name`.
        when: `before` or `after` the call.

    Returns:
        Whether the run came so far, and was killed.
    """
    child = _FORKING.Process(target=_die, args=(folder, flow, place, when, number))
    child.start()
    child.join(100)
    code = child.exitcode
    child.close()
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _die(folder: Path, flow: str, place: str, when: str, number: int) -> None:
    import importlib

    from adapters.postgres import reading
    from agent.prepare import Request
    from agent.runs import run
    from pipelines import work
    from pipelines.drive import drive
    from repository.project import Project

    work.CHECKPOINT_SECONDS = 0.0
    reading.SPLIT_BLOCKS = (64, 16_384)
    module, _, path = place.partition(":")
    owner, names = importlib.import_module(module), path.split(".")
    for name in names[:-1]:
        owner = getattr(owner, name)
    real = getattr(owner, names[-1])
    calls = itertools.count(1)  # several threads count

    def dying(*words: object, **named: object) -> object:
        is_last = next(calls) == number
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*words, **named)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, names[-1], dying)
    run(Request(Project(folder), flow), drive)
