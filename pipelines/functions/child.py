"""The process of an untrusted function: takes batches, answers with what the function gives, and dies when it should.

Started by its file, so that nothing is loaded but this and its neighbours.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

HOUSE = str(Path(__file__).resolve().parents[2])
if __name__ == "__main__":
    sys.path.insert(0, HOUSE)

import pyarrow as pa  # noqa: E402 -- the path comes first

from pipelines.functions.calling import ROW, Code, Faulty, Misbehaved, called, load  # noqa: E402
from pipelines.functions.frames import message, packed, read, written  # noqa: E402
from pipelines.lean import settle_arrow  # noqa: E402

GRACE_SECONDS = 5
"""So much longer than its limit it lives, should nobody be there any more to end it."""


def main() -> None:
    """Answers until nobody asks any more."""
    sys.path.remove(HOUSE)
    for name in [name for name in sys.modules if name.split(".")[0] == "pipelines"]:
        del sys.modules[name]  # a module of the project may be called so
    asked, answers = _own_pipes()
    settle_arrow()
    pa.set_cpu_count(1)
    worker = Worker()
    while (given := message(asked)) is not None:
        answers.write(worker.answer(*given))
        answers.flush()


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes we speak over, out of the way of whatever reads standard input or prints."""
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


class Worker:
    """The function, and the batch it works at."""

    def __init__(self) -> None:
        self._function: Code | None = None
        self._schema = pa.schema([])
        self._batch: pa.RecordBatch | None = None

    def answer(self, header: dict[str, Any], body: bytes) -> bytes:
        """What becomes of a message; whatever the user's code does wrong is an answer too."""
        signal.setitimer(signal.ITIMER_REAL, header["seconds"] + GRACE_SECONDS)
        try:
            if header["do"] == "load":
                return self._load(header, body)
            if header["do"] == "take":
                self._batch = read(body)
                return packed({})
            return self._call(header["start"], header["stop"])
        except Faulty as fault:
            return packed({"faulty": str(fault)})
        except Misbehaved as fault:
            return packed({"misbehaved": str(fault)})
        except MemoryError:
            return packed({"faulty": "MemoryError"})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _load(self, header: dict[str, Any], body: bytes) -> bytes:
        limit_memory(header["memory_bytes"])
        self._schema = pa.ipc.read_schema(pa.py_buffer(body))
        self._function = load(Path(header["project"]), header["function"], header["code"])
        return packed({})

    def _call(self, start: int, stop: int) -> bytes:
        if self._function is None or self._batch is None:
            raise Misbehaved("was called before it was loaded")
        given = called(self._function, self._batch.slice(start, stop - start), self._schema)
        batch = given.batch
        if given.rows is not None:
            batch = batch.append_column(pa.field(ROW, pa.int64()), given.rows)
        return packed({"has_rows": given.rows is not None}, written(batch))


def limit_memory(limit_bytes: int) -> None:
    """From now on so much more memory than there is already, and no dump of it when that ends badly."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    used_bytes = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used_bytes + limit_bytes,) * 2)


if __name__ == "__main__":
    main()
