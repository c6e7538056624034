"""A function in a process of its own: kept from batch to batch, asked under a limit of time, started anew after it died.

It is kept from taking the run along, from our environment with its secrets, and from our memory. What its user may read
on this machine it may read too.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.errors import Cancelled
from pipelines.functions.calling import ROW, Died, Faulty, Given, Misbehaved
from pipelines.functions.frames import packed, read, unpacked, written
from pipelines.functions.function import Function

PROGRAM = Path(__file__).with_name("child.py")
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""All that it gets of our environment."""
SETTINGS = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's own pool reserves a gigabyte before the first byte, which the limit of memory would count."""
LOAD_SECONDS = 60.0
LEAST_SHARE = 0.1
"""A part of a batch gets its part of the time, but never less than this share of it."""
TAIL_BYTES = 2_000
CHUNK_BYTES = 1 << 20


class Process:
    """Calls a function in a process of its own."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._batch = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
        self._running = Running(function.project)
        self._is_loaded = self._has_batch = self._is_ended = False

    def end_call(self) -> None:
        self._is_ended = True
        self._running.kill()

    def take(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._has_batch = False

    def call(self, start: int, stop: int) -> Given:
        self._make_ready()
        share = max((stop - start) / max(self._batch.num_rows, 1), LEAST_SHARE)
        header, body = self._ask({"do": "call", "start": start, "stop": stop}, self._function.timeout_seconds * share)
        try:
            return self._given(header, body, stop - start)
        except (pa.ArrowException, KeyError, StopIteration, ValueError) as fault:
            raise self._dead("it wrote nonsense to us") from fault

    def _make_ready(self) -> None:
        """Sees to it that the process has the function and the batch."""
        if not self._is_loaded:
            function = self._function
            named = {"project": str(function.project), "function": function.function, "code": function.code}
            header = {"do": "load", **named, "memory_bytes": function.memory_bytes}
            try:
                self._ask(header, LOAD_SECONDS, function.schema.serialize())
            except Faulty as fault:
                raise Misbehaved(f"cannot be loaded: {fault}") from fault
            self._is_loaded = True
        if not self._has_batch:
            try:
                self._ask({"do": "take"}, LOAD_SECONDS, written(self._batch))
            except Died:
                raise
            except Faulty as fault:
                raise Misbehaved(f"cannot take a batch of {self._batch.num_rows:,} records: {fault}") from fault
            self._has_batch = True

    def _ask(
        self, header: dict[str, Any], seconds: float, body: bytes | pa.Buffer = b""
    ) -> tuple[dict[str, Any], memoryview]:
        if self._is_ended:
            raise Cancelled("a function's process was ended")
        try:
            answer, given = self._running.ask(packed({**header, "seconds": seconds}, body), seconds)
        except Ended as fault:
            raise self._dead(str(fault)) from fault
        if "misbehaved" in answer:
            raise Misbehaved(str(answer["misbehaved"]))
        if "faulty" in answer:
            raise Faulty(str(answer["faulty"]))
        return answer, given

    def _given(self, header: dict[str, Any], body: memoryview, most: int) -> Given:
        """What it gave, looked at once more: with our pipe in its hands it could have written anything."""
        batch, rows = read(body), None
        batch.validate(full=True)
        if header["has_rows"]:
            rows = batch.column(ROW)
            batch = batch.remove_column(batch.num_columns - 1)
            places = rows.to_numpy()
            if len(places) and (places.min() < 0 or places.max() >= most):
                raise ValueError("rows that there are not")
        elif batch.num_rows != most:
            raise ValueError("not as many records as were asked for")
        if not batch.schema.equals(self._function.schema):
            raise ValueError("other columns than declared")
        return Given(batch, rows)

    def _dead(self, words: str) -> Died:
        """Starts another process in place of the one that died."""
        self._running.end()
        if self._is_ended:
            raise Cancelled("a function's process was ended")
        self._running = Running(self._function.project)
        self._is_loaded = self._has_batch = False
        return Died(words)


class Ended(Exception):
    """The process is there no more, or too late; in words."""


class Running:
    """One process, from its start to its end; it ends with the last mention of it."""

    def __init__(self, project: Path) -> None:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-X", "utf8", str(PROGRAM)],
            stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0,
            cwd=project, env={**environment, **SETTINGS}, start_new_session=True,
        )  # fmt: skip
        self._pipes = [file for file in (self._process.stdin, self._process.stdout, self._process.stderr) if file]
        self.end = weakref.finalize(self, _end, self._process)
        self._tail = b""

    def kill(self) -> None:
        """Ends it from another thread; whoever asks it is told so."""
        if self._process.returncode is None:
            _kill(self._process)

    def ask(self, message: bytes, seconds: float) -> tuple[dict[str, Any], memoryview]:
        """The answer to a message.

        Raises:
            Ended: none came in time, or the process ended.
        """
        deadline = time.monotonic() + seconds
        rest, answer = memoryview(message), bytearray()
        with self._listening() as ready:
            while (found := _message_of(answer)) is None:
                left = deadline - time.monotonic()
                events = ready.select(left) if left > 0 else []
                if not events:
                    raise Ended(f"it took longer than {seconds:g} seconds")
                for key, _mask in events:
                    if key.data == "in":
                        rest = rest[_put(key.fd, rest) :]
                        is_done = not rest
                    else:
                        is_done = self._hears_no_more(key, answer)
                    if is_done:
                        ready.unregister(key.fileobj)
        return found

    def _listening(self) -> selectors.BaseSelector:
        """What tells when there is something to write or read; it may print while we write."""
        ready = selectors.DefaultSelector()
        for file, what in zip(self._pipes, ("in", "out", "err"), strict=True):
            os.set_blocking(file.fileno(), False)
            ready.register(file, selectors.EVENT_WRITE if what == "in" else selectors.EVENT_READ, what)
        return ready

    def _hears_no_more(self, key: selectors.SelectorKey, answer: bytearray) -> bool:
        """Takes what there is to read; whether that was all for ever."""
        chunk = _got(key.fd)
        if key.data == "err":
            self._tail = (self._tail + (chunk or b""))[-TAIL_BYTES:]
        elif chunk:
            answer += chunk
        elif chunk == b"":
            raise Ended(self._last_words())
        return chunk == b""

    def _last_words(self) -> str:
        """How the process ended, and the last line it printed."""
        _kill(self._process)  # no more than a formality, but for one that has only closed our pipe
        code = self._process.wait()
        self._tail = (self._tail + (_got(self._pipes[2].fileno()) or b""))[-TAIL_BYTES:]
        how = f"with exit status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return f"its process ended {how}" + (f": {lines[-1]:.200}" if lines else "")


def _put(file: int, rest: memoryview) -> int:
    """How much could be written; nothing to a process that is gone, which its answer will tell."""
    try:
        return os.write(file, rest[:CHUNK_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(rest)


def _got(file: int) -> bytes | None:
    try:
        return os.read(file, CHUNK_BYTES)
    except BlockingIOError:
        return None


def _message_of(answer: bytearray) -> tuple[dict[str, Any], memoryview] | None:
    try:
        return unpacked(answer)
    except ValueError as fault:
        raise Ended("it wrote nonsense to us") from fault


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # else its number may be another's by now
        _kill(process)
        process.wait()
    for file in (process.stdin, process.stdout, process.stderr):
        if file is not None:
            file.close()
