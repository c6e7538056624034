"""Runs a tap in a process of its own and gives what it says, line by line; it ends with the last mention of it."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.errors import Invalid, Unavailable

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY")
"""All that a tap gets of our environment."""
TAIL_LINES = 40
TAIL_CHARACTERS = 1_000
PIECE_BYTES = 1 << 20
LINE_BYTES = 256 << 20
TICK_SECONDS = 0.5
END_SECONDS = 5
RAISED = re.compile(r"^[\w.]*(Error|Exception|Fault)\b.*: ")
UNHAPPY = re.compile(r"\b(error|exception|critical|fatal)\b", re.IGNORECASE)


class Tap:
    """A tap at work.

    Args:
        words: The command, without `--config` and the like.
        files: What it reads: the name of an option, such as `config`, to what its JSON file has.
        hidden: Secrets, which are cut out of all that is told.
        silent_seconds: So long it may say nothing.
    """

    def __init__(
        self,
        words: Sequence[str],
        files: Mapping[str, Any],
        environment: Mapping[str, str],
        hidden: Sequence[str],
        silent_seconds: float,
    ) -> None:
        self._name = Path(words[0]).name
        self._hidden = hidden
        self._silent_seconds = silent_seconds
        self._folder = tempfile.TemporaryDirectory(prefix="processflow-tap-", ignore_cleanup_errors=True)
        given = list(words)
        for option, content in files.items():
            path = Path(self._folder.name, f"{option}.json")
            path.touch(0o600)
            path.write_text(json.dumps(content), encoding="utf-8")
            given += [f"--{option}", str(path)]
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._process = subprocess.Popen(
            given, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            env={**passed, "PYTHONUNBUFFERED": "1", **environment}, cwd=self._folder.name, start_new_session=True,
        )  # fmt: skip
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *fault: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends the process and all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listening.join(END_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._folder.cleanup()

    def lines(self) -> Iterator[bytes | None]:
        """What it says, and None where it has said nothing for half a second.

        Raises:
            Unavailable: it ended with a fault, or says nothing any more.
        """
        out = self._process.stdout
        assert out is not None
        held: list[bytes] = []
        size = 0
        heard = time.monotonic()
        with selectors.DefaultSelector() as waiting:
            waiting.register(out, selectors.EVENT_READ)
            while True:
                if not waiting.select(TICK_SECONDS):
                    if time.monotonic() - heard > self._silent_seconds:
                        raise Unavailable(
                            f"{self._name} has said nothing for {self._silent_seconds:g} seconds{self._told()}"
                        )
                    yield None
                    continue
                said = out.read(PIECE_BYTES)
                heard = time.monotonic()
                if not said:
                    break
                *whole, rest = said.split(b"\n")
                if whole:
                    yield b"".join([*held, whole[0]])
                    yield from whole[1:]
                    held, size = [], 0
                held.append(rest)
                size += len(rest)
                if size > LINE_BYTES:
                    raise Invalid(f"{self._name} says a line of more than {LINE_BYTES >> 20} MB, which is no message")
        if size:
            yield b"".join(held)
        code = self._process.wait()
        self._listening.join(END_SECONDS)
        if code:
            raise Unavailable(f"{self._name} ended with exit code {code}{self._told()}")

    def output(self) -> str:
        """All that it says at once, when it has ended."""
        return b"\n".join(line for line in self.lines() if line is not None).decode("utf-8", "replace")

    def _listen(self) -> None:
        errors = self._process.stderr
        assert errors is not None
        with suppress(ValueError, OSError):
            for line in errors:
                text = line.decode("utf-8", "replace").strip()
                if text:
                    self._tail.append(text[:TAIL_CHARACTERS])

    def _told(self) -> str:
        """Its last words: what was raised last, or the last that speaks of a fault, or the last of all."""
        lines = list(self._tail)
        raised = [line for line in lines if RAISED.match(line)]
        bad = [line for line in lines if UNHAPPY.search(line)]
        text = (raised or bad or lines or [""])[-1]
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return f": {text}" if text else ""
