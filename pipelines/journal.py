"""What a run has decided, on disk before it acts on it: after a crash this tells what to finish and what to remove."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.disk import file_name, node_named, spilled
from pipelines.facts import Facts, Plain
from pipelines.job import Job

PLANNED = "planned"


def write(path: Path, value: Any, *, durable: bool = False) -> None:
    """Writes a value so that the file is there whole or not at all; where it is `durable`, also after a power cut."""
    temporary = path.with_suffix(".tmp")
    with spilled(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pickle.dump(value, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)


def read(path: Path) -> Any | None:
    """What was written, or None; None too where a power cut left what was not durable in pieces."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            return pickle.load(file)  # noqa: S301 - the run's own folder
        except (EOFError, pickle.UnpicklingError):
            return None


def save_job(job: Job) -> None:
    write(job.journal / "job", job)


def load_job(staging: Path) -> Job | None:
    found = read(staging / "journal" / "job")
    return found if isinstance(found, Job) else None


def save_planned(job: Job, phase: int, planned: Plain) -> None:
    """What the gets of a phase will read, and their positions once all of it is delivered."""
    write(job.journal / f"{PLANNED}-{phase}", planned)


def load_planned(job: Job, phase: int) -> Plain | None:
    found = read(job.journal / f"{PLANNED}-{phase}")
    return found if isinstance(found, dict) else None


def forget_planned(job: Job, phase: int) -> None:
    """The phase begins anew: neither its plan nor what was done by it holds."""
    for path in [job.journal / f"{PLANNED}-{phase}", *job.journal.glob(f"done-{phase}-*")]:
        path.unlink(missing_ok=True)


def delivering(job: Job) -> tuple[list[str], list[str]]:
    """The posts that have committed, and those that were about to and have not heard whether they did."""
    files = [path.name for path in job.journal.glob("settled-*") if not path.suffix]
    settled = sorted(node_named(name.removeprefix("settled-")) for name in files)
    done = [node for node in settled if is_published(job, node)]
    return done, [node for node in settled if node not in done]


def save_phase(job: Job, phase: int, facts: Facts) -> None:
    """All workers of the phase are done; from here on the run can be finished without reading again."""
    write(job.journal / f"phase-{phase}", facts.plain(), durable=True)


def load_phase(job: Job, phase: int) -> Facts | None:
    found = read(job.journal / f"phase-{phase}")
    return None if found is None else Facts.of(found)


def save_checkpoint(job: Job, phase: int, splits: Sequence[Plain], facts: Facts) -> None:
    """Some splits of a phase are done: a run that is taken up again need not read them again."""
    value = {"splits": [split_name(split) for split in splits], "facts": facts.plain()}
    write(job.journal / f"done-{phase}-{uuid.uuid4().hex}", value, durable=True)


def load_checkpoints(job: Job, phase: int) -> list[tuple[frozenset[str], Facts]]:
    """What is done of a phase: the names of splits, and the facts of them together."""
    values = [read(path) for path in sorted(job.journal.glob(f"done-{phase}-*")) if path.suffix != ".tmp"]
    return [(frozenset(value["splits"]), Facts.of(value["facts"])) for value in values if value is not None]


def split_name(split: Plain) -> str:
    """What tells a split from the others of its phase, also in another process."""
    return hashlib.blake2b(json.dumps(split, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def save_settled(job: Job, node: str, facts: Facts) -> None:
    """What a post's publication told of its records; written before the publication commits."""
    write(job.journal / f"settled-{file_name(node)}", facts.plain(), durable=True)


def load_settled(job: Job, node: str) -> Facts | None:
    found = read(job.journal / f"settled-{file_name(node)}")
    return None if found is None else Facts.of(found)


def save_published(job: Job, node: str) -> None:
    write(job.journal / f"published-{file_name(node)}", True)


def is_published(job: Job, node: str) -> bool:
    return bool(read(job.journal / f"published-{file_name(node)}"))
